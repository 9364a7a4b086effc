"""compose.yaml names what is there: options, variables, ports, files, the image's targets; and lets nothing be root."""

import math
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli import _parser
from server.serve import FLUSH_S
from server.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVERS = ("cpu", "gpu")
NOT_OURS = {"HF_HUB_OFFLINE"}

KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "init", "networks",
    "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs",
    "user", "volumes",
}  # fmt: skip
"""Of a service, in the compose specification, as far as they are used."""


def defaults(text: str) -> str:
    """As compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(defaults(COMPOSE.read_text()))
    return told


@pytest.fixture(params=SERVERS)
def server(compose: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    told: dict[str, Any] = compose["services"][request.param]
    return told


def test_nothing_is_left_to_be_filled_in(compose: dict[str, Any]) -> None:
    assert "$" not in defaults(COMPOSE.read_text())
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes", "secrets"}
    for service in compose["services"].values():
        assert service.keys() <= KEYS


def test_each_server_is_a_target_of_the_image(compose: dict[str, Any]) -> None:
    targets = re.findall(r"^FROM .+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    for name in SERVERS:
        service = compose["services"][name]
        assert service["build"] == {"context": "..", "target": name}
        assert name in targets
        assert service["profiles"] == [name]


def test_the_server_is_told_what_it_takes(server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server["environment"].items():
        assert name in NOT_OURS or name.removeprefix("SWIRES_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    options = vars(_parser().parse_args(["serve", *server["command"]]))
    settings = Settings(model=options["model"], port=options["port"])
    assert str(settings.api_keys) == f"/run/secrets/{server['secrets'][0]}"
    (port,) = server["ports"]
    assert port == f"127.0.0.1:8000:{settings.port}"


def test_the_server_is_given_the_time_that_its_longest_search_needs(server: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        from server.engine.vllm_engine import STOP_S

    longest = math.ceil(float(server["environment"]["SWIRES_TIMEOUT_S"]))
    assert int(server["stop_grace_period"].removesuffix("s")) >= longest + FLUSH_S + STOP_S


def test_the_server_is_asked_whether_it_is_ready_as_the_image_is(server: dict[str, Any]) -> None:
    (asked,) = set(re.findall(r"^HEALTHCHECK .* CMD \[(.+)\]$", DOCKERFILE, re.MULTILINE))
    assert server["healthcheck"]["test"] == ["CMD", *yaml.safe_load(f"[{asked}]")]


def test_the_server_is_not_root_and_writes_where_the_image_says(server: dict[str, Any]) -> None:
    assert set(re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)) == {server["user"]}
    (declared,) = set(re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE))
    mounted = [volume.split(":") for volume in server["volumes"]]
    writable = {target for _, target, *mode in mounted if mode != ["ro"]} | {
        each.split(":")[0] for each in server["tmpfs"]
    }
    assert writable == set(yaml.safe_load(declared))


def test_nothing_may_become_more_than_it_is(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (COMPOSE.parent / source).exists() if "/" in source else source in compose["volumes"], volume


def test_prometheus_asks_the_server_by_its_name(compose: dict[str, Any]) -> None:
    told = yaml.safe_load((COMPOSE.parent / "prometheus" / "prometheus.yaml").read_text())
    (target,) = [
        target for job in told["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]
    host, _, port = target.partition(":")
    for name in SERVERS:
        service = compose["services"][name]
        assert service["networks"]["default"]["aliases"] == [host]
        assert port in service["command"]
    for rules in told["rule_files"]:
        assert (COMPOSE.parent / "prometheus" / rules).exists()


def test_grafana_asks_prometheus_by_its_name_and_finds_the_dashboard(compose: dict[str, Any]) -> None:
    provisioning = COMPOSE.parent / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert compose["services"][host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "swires.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert any(target.startswith(f"{provider['options']['path']}/") for target in mounted)
