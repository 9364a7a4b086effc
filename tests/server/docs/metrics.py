"""The page of the metrics, made from the families that the server registers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from server.metrics.families import Families
from server.metrics.page import REJECTIONS
from server.metrics.scorer import REASONS
from server.metrics.search import OUTCOMES, TokenFate
from server.scorer.offered import SCORERS
from server.settings import PolicyName, PresetName
from swires.stages import Stage
from tests.server.docs.options import table
from tests.server.docs.pages import ROOT

PAGE = ROOT / "server/docs/metrics.md"

HEAD = """\
# Metrics

This page is made from the code by `make docs-metrics`; a test fails when it is out of date.

`GET /metrics` is for Prometheus: `swires_*` of the searches, and as vLLM registers them, `vllm:*` of the engine in the
same process ([vLLM's list](https://docs.vllm.ai/en/latest/usage/metrics/)). Where the server has keys it wants one here
too, but with `--open-metrics true`. What goes with it:

- [recording rules](../../deploy/prometheus/recording.yaml), and [alerts](../../deploy/prometheus/alerts.yaml) with a
  [runbook](../../deploy/runbook.md)
- a [dashboard](../../deploy/grafana/dashboard.json) for Grafana 11 and later

`make test-monitoring` tries all of it on a Prometheus.

## What is counted

"""

LABELS_HEAD = """\

## Labels

No label has a value that a client can make up.

"""

BUCKETS_HEAD = """\

## Buckets

Those of seconds are vLLM's, so that panels for its histograms fit ours.

"""

VALUES: Mapping[str, Sequence[str]] = {
    "policy": get_args(PolicyName),
    "preset": get_args(PresetName),
    "stage": [stage.name for stage in Stage],
    "outcome": OUTCOMES,
    "accepted": ("true", "false"),
    "fate": [fate for part in get_args(TokenFate) for fate in get_args(part) or (part,)],
    "source": ("cached", "computed"),
    "scorer": SCORERS,
}
BY_METRIC = {"swires_scorer_faults_total": REASONS, "swires_admission_rejections_total": REJECTIONS}
TOLD_ONCE = {"version": "of this server", "engine": "which, and its version", "model": "the served name"}


def page() -> str:
    parts = [HEAD, metrics_table(), LABELS_HEAD, labels_table(), BUCKETS_HEAD, buckets_table()]
    return "".join(parts)


def collectors() -> list[Any]:
    """In the order in which they are registered."""
    return list(Families().registry._collector_to_names)


def name_of(collector: Any) -> str:
    """As it stands on the page of /metrics; a histogram's has `_bucket`, `_count` or `_sum` after it."""
    suffix = {"counter": "_total", "info": "_info"}.get(collector._type, "")
    return f"{collector._name}{suffix}"


def metrics_table() -> str:
    rows = [
        (
            f"`{name_of(collector)}`",
            collector._type,
            ", ".join(f"`{label}`" for label in labels_of(collector)),
            collector._documentation,
        )
        for collector in collectors()
    ]
    return table(("metric", "type", "labels", "says"), rows)


def labels_of(collector: Any) -> Sequence[str]:
    return tuple(TOLD_ONCE) if collector._type == "info" else collector._labelnames


def labels_table() -> str:
    return table(("label", "values"), _label_rows())


def _label_rows() -> Iterator[Sequence[str]]:
    for label, values in VALUES.items():
        yield f"`{label}`", ", ".join(f"`{value}`" for value in values)
    for metric, values in BY_METRIC.items():
        yield f"`reason` of `{metric}`", ", ".join(f"`{value}`" for value in values)
    yield "`status`", "of HTTP, 400 and above"
    for label, says in TOLD_ONCE.items():
        yield f"`{label}`", says


def buckets_table() -> str:
    rows = [
        (f"`{collector._name}`", ", ".join(f"{bound:g}" for bound in collector._kwargs["buckets"]))
        for collector in collectors()
        if collector._type == "histogram"
    ]
    return table(("histogram", "upper bounds"), rows)
