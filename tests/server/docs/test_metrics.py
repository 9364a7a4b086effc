"""The page of the metrics is that of the present code."""

import pytest

from tests.server.docs import metrics

REMEDY = "server/docs/metrics.md is not what the server registers: `make docs-metrics` writes it anew"


def test_the_page_is_up_to_date(write_docs: bool) -> None:
    if write_docs:
        metrics.PAGE.write_text(metrics.page())
    if metrics.PAGE.read_text() != metrics.page():
        pytest.fail(REMEDY, pytrace=False)


def test_every_label_is_told() -> None:
    told = {*metrics.VALUES, *metrics.TOLD_ONCE, "reason", "status"}
    assert {label for collector in metrics.collectors() for label in metrics.labels_of(collector)} == told
