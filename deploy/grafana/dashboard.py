"""Writes dashboard.json, for Grafana 11 and later, from a table of panels: `python -m deploy.grafana.dashboard`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]

FILE = Path(__file__).with_name("dashboard.json")
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = 'job=~"$job", instance=~"$instance"'
WINDOW = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or with `stat` the newest value alone; `queries` by what their lines are called."""

    title: str
    unit: str
    queries: Mapping[str, str]
    says: str
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False
    signed: bool = False
    thresholds: Sequence[tuple[float, str]] = field(default_factory=tuple)

    @property
    def size(self) -> tuple[int, int]:
        return (4, 4) if self.kind == "stat" else (8, 8)


def series(metric: str, where: str = "") -> str:
    return f"{metric}{{{OURS}{', ' if where else ''}{where}}}"


def rate(metric: str, by: str = "", where: str = "") -> str:
    return f"sum{_by(by)} (rate({series(metric, where)}{WINDOW}))"


def total(metric: str, by: str = "") -> str:
    return f"sum{_by(by)} ({series(metric)})"


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', labels, where)})"


def quantiles(metric: str, by: str = "", *, shares: Sequence[float] = (0.5, 0.95)) -> dict[str, str]:
    """Lines of a histogram, one for each share and each value of the label `by`."""
    legend = "".join(f"{{{{{label}}}}} " for label in by.split(", ") if label)
    return {f"{legend}p{100 * share:g}": quantile(share, metric, by) for share in shares}


def or_none(expression: str, like: str) -> str:
    """0 where nothing has been counted yet, if there is anything `like` it."""
    return f"{expression} or 0 * {like}"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


SEARCHES = rate("swires_searches_total")
UNANSWERED = rate("swires_searches_total", where='outcome=~"failed|deadline|refused"')
TOKENS = rate("swires_generated_tokens_total")
CHOSEN = rate("swires_generated_tokens_total", where='fate="chosen"')
RETRACES = rate("swires_retraces_total", "policy, stage")
BEGUN = rate("swires_searches_total", "policy", 'outcome!="refused"')
JUDGED = rate("swires_judged_searches_total", "policy, preset")
ACCEPTED = rate("swires_judged_searches_total", "policy, preset", 'accepted="true"')

ROWS: Mapping[str, Sequence[Panel]] = {
    "Now": [
        Panel(
            "Servers",
            "none",
            {"": f"count({series('swires_build_info')})"},
            "Servers that answer /metrics.",
            "stat",
        ),
        Panel(
            "Engines alive",
            "percentunit",
            {"": f"avg({series('swires_engine_alive')})"},
            "Share of the servers whose engine lives.",
            "stat",
            thresholds=((0, "red"), (1, "green")),
        ),
        Panel("Searches", "reqps", {"": SEARCHES}, "Searches that end, a second.", "stat"),
        Panel(
            "Unanswered",
            "percentunit",
            {"": f"({or_none(UNANSWERED, SEARCHES)}) / {SEARCHES}"},
            "Share of the searches that failed, found no answer in time or were refused. The objective is 0.5 %.",
            "stat",
            thresholds=((0, "green"), (0.005, "orange"), (0.03, "red")),
        ),
        Panel(
            "Queue",
            "percentunit",
            {"": f"{total('swires_waiting_searches')} / {total('swires_max_waiting_searches')}"},
            "Share of the places to wait that are taken.",
            "stat",
            thresholds=((0, "green"), (0.5, "orange"), (0.8, "red")),
        ),
        Panel(
            "Tokens not chosen",
            "percentunit",
            {"": f"1 - {CHOSEN} / {TOKENS}"},
            "Share of the sampled tokens that are in no answer: the price of searching.",
            "stat",
        ),
    ],
    "Searches": [
        Panel(
            "Searches by outcome",
            "reqps",
            {"{{outcome}}": rate("swires_searches_total", "outcome")},
            "How searches end: finished, by a limit, or without an answer.",
            stacked=True,
        ),
        Panel(
            "Searches by policy and preset",
            "reqps",
            {"{{policy}} {{preset}}": rate("swires_searches_total", "policy, preset")},
            "What clients ask for.",
            stacked=True,
        ),
        Panel(
            "Running and waiting",
            "none",
            {
                "running": total("swires_active_searches"),
                "waiting": total("swires_waiting_searches"),
                "candidates": total("swires_active_candidates"),
                "room for candidates": total("swires_max_candidates"),
            },
            "Searches under way and in the queue, and the candidates that they may sample at once.",
        ),
        Panel(
            "Seconds to the end",
            "s",
            quantiles("swires_search_seconds", "policy"),
            "From a request that has been read to the end of its search.",
        ),
        Panel(
            "Seconds to the first text",
            "s",
            quantiles("swires_time_to_first_text_seconds", "policy"),
            "To the first text of the answer, which a stream sends at once.",
        ),
        Panel(
            "Seconds in the queue",
            "s",
            quantiles("swires_queue_seconds", shares=(0.5, 0.95, 0.99)),
            "Until a search had its turn.",
        ),
    ],
    "Where time and tokens go": [
        Panel(
            "Seconds by stage",
            "s",
            {"{{stage}} p95": quantile(0.95, "swires_stage_seconds", "stage")},
            "Of each visit to a stage, scoring included.",
        ),
        Panel(
            "Share of time by stage",
            "percentunit",
            {
                "{{policy}} {{stage}}": f"{rate('swires_stage_seconds_sum', 'policy, stage')} / "
                f"ignoring (policy, stage) group_left {rate('swires_stage_seconds_sum')}"
            },
            "Of all seconds that searches ran.",
            stacked=True,
        ),
        Panel(
            "Seconds of scoring",
            "s",
            quantiles("swires_scorer_seconds", "scorer"),
            "Of calls that gave scores.",
        ),
        Panel(
            "Sampled tokens by fate",
            "short",
            {"{{fate}}": rate("swires_generated_tokens_total", "fate")},
            "Tokens a second: chosen for an answer, or not.",
            stacked=True,
        ),
        Panel(
            "Prompt and scored tokens",
            "short",
            {
                "prompt, {{source}}": rate("swires_prompt_tokens_total", "source"),
                "scored by {{scorer}}": rate("swires_scored_tokens_total", "scorer"),
            },
            "Tokens a second that engine and scorers read; cached ones cost next to nothing.",
        ),
        Panel(
            "Candidates of a search",
            "none",
            {"{{policy}}": f"{rate('swires_generations_total', 'policy')} / {BEGUN}"},
            "Candidates sampled for each search that ended.",
        ),
    ],
    "How the search does": [
        Panel(
            "Retraces of a search",
            "none",
            {"{{policy}} to {{stage}}": f"{RETRACES} / on (policy) group_left {BEGUN}"},
            "How often a search goes back: how hard the questions are for the model.",
        ),
        Panel(
            "Accepted",
            "percentunit",
            {"{{policy}} {{preset}}": f"{ACCEPTED} / {JUDGED}"},
            "Share of the answers that passed their policy's threshold.",
        ),
        Panel(
            "Scores by stage",
            "none",
            {
                "{{scorer}} {{stage}} median": quantile(0.5, "swires_candidate_score", "scorer, stage"),
                "{{scorer}} {{stage}} p95": quantile(0.95, "swires_candidate_score", "scorer, stage"),
            },
            "In deviations from the calibrated mean; a median far from 0 asks for a new calibration.",
            signed=True,
        ),
        Panel(
            "Scorer faults",
            "reqps",
            {
                "{{scorer}} {{reason}}": rate("swires_scorer_faults_total", "scorer, reason"),
                "searches degraded": rate("swires_scorer_degraded_total"),
            },
            "Calls without scores, and searches that went on without.",
        ),
        Panel(
            "Refused for want of room",
            "reqps",
            {"{{reason}}": rate("swires_admission_rejections_total", "reason")},
            "By what was full; keys have shares of their own.",
            stacked=True,
        ),
        Panel(
            "Requests answered with an error",
            "reqps",
            {"{{status}}": rate("swires_refusals_total", "status")},
            "By status; those of 4xx are the clients' own.",
            stacked=True,
        ),
    ],
    "Engine (vLLM)": [
        Panel(
            "Requests in the engine",
            "none",
            {
                "running": total("vllm:num_requests_running"),
                "waiting": total("vllm:num_requests_waiting"),
            },
            "One request may sample several candidates.",
        ),
        Panel(
            "KV cache in use",
            "percentunit",
            {"{{instance}}": f"max by (instance) ({series('vllm:kv_cache_usage_perc')})"},
            "Full is when requests are preempted.",
        ),
        Panel(
            "Preemptions",
            "cps",
            {"{{instance}}": rate("vllm:num_preemptions_total", "instance")},
            "Requests that lost their place in the KV cache and are computed again.",
        ),
        Panel(
            "Tokens",
            "short",
            {
                "prompt": rate("vllm:prompt_tokens_total"),
                "generated": rate("vllm:generation_tokens_total"),
            },
            "A second, scoring included.",
        ),
        Panel(
            "Prefix cache hits",
            "percentunit",
            {"tokens": f"{rate('vllm:prefix_cache_hits_total')} / {rate('vllm:prefix_cache_queries_total')}"},
            "Share of the prompt tokens that were not computed again.",
        ),
        Panel(
            "Seconds to a token",
            "s",
            {
                "first, p95": quantile(0.95, "vllm:time_to_first_token_seconds"),
                "next, p95": quantile(0.95, "vllm:inter_token_latency_seconds"),
            },
            "As the engine sees it.",
        ),
    ],
}


def dashboard() -> Json:
    return {
        "uid": "swires",
        "title": "SWIRES",
        "description": "Searches, where their time and tokens go, and the engine under them.",
        "tags": ["swires"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    for name, query in (
        ("job", "label_values(swires_build_info, job)"),
        ("instance", 'label_values(swires_build_info{job=~"$job"}, instance)'),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "sort": 1,
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[Json]:
    """Row by row, each panel to the right of the one before it while there is room."""
    top = number = 0
    for title, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, top, WIDTH, 1),
        }
        top, left = top + 1, 0
        for panel in panels:
            width, height = panel.size
            if left + width > WIDTH:
                top, left = top + height, 0
            number += 1
            yield _panel(number, panel, _at(left, top, width, height))
            left += width
        top += panels[-1].size[1]


def _at(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(number: int, panel: Panel, place: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
            }
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> Json:
    steps = [
        {"color": color, "value": value if index else None} for index, (value, color) in enumerate(panel.thresholds)
    ]
    defaults: Json = {"unit": panel.unit}
    if steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.kind == "timeseries":
        if not panel.signed:
            defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return defaults


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "area", "textMode": "value"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
