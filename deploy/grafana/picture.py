"""Draws the dashboard from the data of a Prometheus: `python -m deploy.grafana.picture http://127.0.0.1:9090`.

The panels, their places and their queries are those of dashboard.json; Grafana itself draws them nicer.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.grafana.dashboard import FILE, OURS, WIDTH

Json: TypeAlias = dict[str, Any]

PICTURE = FILE.with_suffix(".png")
COLUMN, ROW = 0.62, 0.36
"""Inches of a column of Grafana's 24, and of a row of its grid."""

MAX_LINES = 9
PERCENT = {"percentunit": 100}
UNITS = {"percentunit": "%", "s": "s", "reqps": "/s", "cps": "/s", "short": "", "none": ""}


@dataclass(frozen=True, slots=True)
class Line:
    """Values over minutes, of which 0 is now."""

    legend: str
    points: Sequence[tuple[float, float]]


class Prometheus:
    """Asked for what panels show, whatever their variables stand for."""

    def __init__(self, url: str, *, rate_interval: str = "1m") -> None:
        self._url = url.rstrip("/") + "/api/v1"
        self._rate_interval = rate_interval

    def lines(self, target: Json, *, start: float, end: float, step_s: float) -> list[Line]:
        """Without the points that are not numbers, and without lines that have no others."""
        query = self.filled(target["expr"])
        found = self._asked("query_range", query=query, start=start, end=end, step=step_s)
        lines = [Line(_named(target["legendFormat"], each["metric"]), _numbers(each["values"], end)) for each in found]
        return [line for line in lines if line.points]

    def now(self, query: str) -> list[float]:
        return [value for each in self._asked("query", query=query) for _, value in _numbers([each["value"]], 0)]

    def filled(self, expression: str) -> str:
        every = OURS.replace('"$job"', '".*"').replace('"$instance"', '".*"')
        return expression.replace(OURS, every).replace("$__rate_interval", self._rate_interval)

    def _asked(self, path: str, **parameters: str | float) -> list[Json]:
        told = httpx.get(f"{self._url}/{path}", params=parameters, timeout=30).json()
        if told["status"] != "success":
            raise ValueError(f"{told['error']}: {parameters['query']}")
        result: list[Json] = told["data"]["result"]
        return result


def _named(legend: str, labels: Json) -> str:
    if legend == "__auto":
        return ", ".join(map(str, labels.values()))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: str(labels.get(match.group(1), "")), legend)


def _numbers(values: Sequence[tuple[float, str]], now: float) -> list[tuple[float, float]]:
    points = [((at - now) / 60, float(value)) for at, value in values]
    return [(at, value) for at, value in points if value == value]


def panels() -> Iterator[Json]:
    yield from json.loads(FILE.read_text())["panels"]


def draw(prometheus: Prometheus, *, minutes: float, out: Path) -> None:
    end = time.time()
    start = end - 60 * minutes
    found = list(panels())
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in found)
    figure = Figure(figsize=(WIDTH * COLUMN, height * ROW), facecolor="#f4f5f5")
    for panel in found:
        place = panel["gridPos"]
        box = (place["x"] / WIDTH, 1 - (place["y"] + place["h"]) / height, place["w"] / WIDTH, place["h"] / height)
        if panel["type"] == "row":
            figure.text(box[0] + 0.006, box[1] + box[3] / 3, panel["title"], fontsize=11, weight="bold")
            continue
        lines = [
            line
            for target in panel["targets"]
            for line in prometheus.lines(target, start=start, end=end, step_s=max(1.0, (end - start) / 120))
        ]
        axes = figure.add_axes(_inner(box, panel["type"]))
        (_draw_stat if panel["type"] == "stat" else _draw_graph)(axes, panel, lines)
    figure.savefig(out, dpi=80)


def _inner(box: tuple[float, float, float, float], kind: str) -> tuple[float, float, float, float]:
    left, bottom, width, height = box
    if kind == "stat":
        return (left + 0.05 * width, bottom + 0.05 * height, 0.9 * width, 0.8 * height)
    return (left + 0.11 * width, bottom + 0.3 * height, 0.85 * width, 0.57 * height)


def _draw_stat(axes: Axes, panel: Json, lines: Sequence[Line]) -> None:
    axes.set_axis_off()
    unit = panel["fieldConfig"]["defaults"]["unit"]
    value = f"{lines[0].points[-1][1] * PERCENT.get(unit, 1):.3g} {UNITS[unit]}" if lines else "no data"
    axes.set_title(panel["title"], fontsize=9)
    axes.text(0.5, 0.45, value, fontsize=22, ha="center", va="center", color="#299c46", transform=axes.transAxes)


def _draw_graph(axes: Axes, panel: Json, lines: Sequence[Line]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    scale = PERCENT.get(defaults["unit"], 1)
    axes.set_title(f"{panel['title']}{_in_units(defaults['unit'])}", fontsize=9)
    if defaults["custom"]["stacking"]["mode"] == "normal" and lines:
        times = sorted({at for line in lines for at, _ in line.points})
        heights = [[dict(line.points).get(at, 0.0) * scale for at in times] for line in lines]
        axes.stackplot(times, heights, labels=[line.legend for line in lines])
    else:
        for line in lines:
            at, values = zip(*line.points, strict=True)
            axes.plot(at, [value * scale for value in values], label=line.legend)
    if "min" in defaults:
        axes.set_ylim(0, max(1e-9, 1.05 * axes.get_ylim()[1]))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:MAX_LINES],
        labels[:MAX_LINES],
        fontsize=6,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        frameon=False,
    )


def _in_units(unit: str) -> str:
    return f", {UNITS[unit]}" if UNITS[unit] else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.picture", description=__doc__)
    parser.add_argument("url", help="of Prometheus")
    parser.add_argument("--minutes", type=float, default=30, help="before now (default %(default)s)")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG (default %(default)s)")
    options = parser.parse_args()
    draw(Prometheus(options.url), minutes=options.minutes, out=options.out)


if __name__ == "__main__":
    main()
