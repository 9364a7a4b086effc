"""The rules as files; what they say is tested by promtool, `make test-monitoring`."""

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.monitoring.known import DEPLOY, named, recorded, rules

RUNBOOK = (DEPLOY / "runbook.md").read_text()
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
WINDOWS = ("5m", "30m", "1h", "6h", "3d")


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.glob("prometheus/*")) + sorted(DEPLOY.glob("grafana/**/*.yaml")), ids=str
)
def test_a_file_is_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert list(SECTIONS) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["runbook_url"] == f"deploy/runbook.md#{name.lower()}"
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    assert re.findall(r"^\*\*(Means|Look|Do)\*\*(?: and \*\*(do)\*\*)?", SECTIONS[name], re.MULTILINE) in (
        [("Means", ""), ("Look", ""), ("Do", "")],
        [("Means", ""), ("Look", "do")],
    )


def test_every_alert_has_been_made_to_fire() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text())["tests"]
    tried = [check for test in tests for check in test["alert_rule_test"]]
    for name in ALERTS:
        fires = {bool(check.get("exp_alerts")) for check in tried if check["alertname"] == name}
        assert True in fires, name
    assert {check["alertname"] for check in tried} == set(ALERTS)


def test_what_is_recorded_is_used_or_told() -> None:
    texts = [RUNBOOK, *(path.read_text() for path in DEPLOY.glob("prometheus/*s*.yaml"))]
    assert recorded() <= set.union(*map(named, texts))


def test_an_objectives_windows_differ_in_nothing_else() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus/recording.yaml").read_text())["groups"]
    objectives = {group["name"]: group["rules"] for group in groups if "objectives" in group["name"]}
    assert list(objectives) == [f"swires-objectives-{window}" for window in WINDOWS]
    first, *others = (
        yaml.safe_dump(each).replace(window, "W") for window, each in zip(WINDOWS, objectives.values(), strict=True)
    )
    assert all(other == first for other in others)


def test_burn_rates_are_those_of_the_budget() -> None:
    """A month's share that an hour, or six, may burn before somebody is woken: 2 and 5 % of 720 hours' budget."""
    assert pytest.approx((14.4, 6)) == (0.02 * 720 / 1, 0.05 * 720 / 6)
    for name, budget in (("SearchesUnanswered", 0.005), ("FirstTextLate", 0.05), ("AnswersLate", 0.05)):
        factors = re.findall(r"> (?:([\d.]+) \* )?([\d.]+)", ALERTS[f"Swires{name}"]["expr"])
        assert factors == [("14.4", str(budget))] * 2 + [("6", str(budget))] * 2
        assert re.findall(r"> ([\d.]+)", ALERTS[f"Swires{name}Slowly"]["expr"]) == [str(budget)] * 2
