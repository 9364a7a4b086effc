"""Whatever rules, dashboard and pages ask for is there."""

from pathlib import Path

import pytest

from tests.deploy.monitoring.known import DEPLOY, named, ours, recorded, vllms
from tests.server.docs.metrics import collectors, name_of

ROOT = DEPLOY.parent
FILES = [
    *(DEPLOY / "prometheus").glob("*.yaml"),
    DEPLOY / "grafana/dashboard.json",
    DEPLOY / "compose.yaml",
    *(DEPLOY / "helm").rglob("*.yaml"),
    *DEPLOY.glob("*.md"),
    *(ROOT / "server").rglob("*.md"),
    ROOT / "README.md",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_metric_that_is_named_is_there(path: Path) -> None:
    assert named(path.read_text()) - ours() - vllms() - recorded() == set()


def test_names_are_found() -> None:
    text = (
        "`swires_searches_total{x}` sum(vllm:num_requests_running) job:swires_queue_fill:ratio SWIRES_MODEL swires.json"
    )
    assert named(text) == {"swires_searches_total", "vllm:num_requests_running", "job:swires_queue_fill:ratio"}


def test_vllms_names_are_known() -> None:
    assert {
        "vllm:num_preemptions_total",
        "vllm:kv_cache_usage_perc",
        "vllm:inter_token_latency_seconds_bucket",
    } <= vllms()


def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule() -> None:
    asked = "".join(path.read_text() for path in FILES if path.suffix != ".md")
    unasked = {each for each in map(name_of, collectors()) if not any(name.startswith(each) for name in named(asked))}
    assert unasked == {"swires_draining"}
