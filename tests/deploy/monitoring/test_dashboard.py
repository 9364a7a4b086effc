"""The dashboard as a file; what it shows is tried on a real Prometheus, `make test-monitoring`."""

import json
from itertools import combinations

import yaml

from deploy.grafana import dashboard
from deploy.grafana.picture import Prometheus, panels
from tests.deploy.monitoring.known import DEPLOY, Json

GRAPHS = [panel for panel in panels() if panel["type"] != "row"]


def test_the_file_is_what_the_table_says() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "`python -m deploy.grafana.dashboard` writes it anew"


def test_each_panel_is_named_once_and_asks_for_something() -> None:
    assert len({panel["id"] for panel in panels()}) == len(list(panels()))
    assert len({panel["title"] for panel in GRAPHS}) == len(GRAPHS)
    for panel in GRAPHS:
        assert all((panel["targets"], panel["description"], panel["fieldConfig"]["defaults"]["unit"]))


def test_panels_lie_side_by_side() -> None:
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        assert not (_meet(one, other, "x", "w") and _meet(one, other, "y", "h"))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= dashboard.WIDTH for panel in panels())


def _meet(one: Json, other: Json, start: str, size: str) -> bool:
    return bool(one[start] < other[start] + other[size] and other[start] < one[start] + one[size])


def test_queries_keep_to_the_variables() -> None:
    told = json.loads(dashboard.FILE.read_text())
    assert [variable["name"] for variable in told["templating"]["list"]] == ["datasource", "job", "instance"]
    for panel in GRAPHS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["expr"].count("{") == target["expr"].count(dashboard.OURS)
            assert "$" not in Prometheus("http://nowhere").filled(target["expr"])


def test_grafana_is_told_where_prometheus_and_the_dashboard_are() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/swires.yaml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
