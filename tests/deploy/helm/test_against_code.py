"""What the manifests say of the server is so: paths, ports, options, variables, metrics, seconds."""

import argparse
import math
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from server import __version__
from server.app import create_app
from server.cli import _parser
from server.engine.fake import FakeEngine
from server.routes import router
from server.scorer.fake import FakeScorer
from server.serve import FLUSH_S
from server.settings import Settings
from tests.deploy.helm.chart import CHART, ROOT, Manifest, Rendered, variables
from tests.server.client import connect

LWS = {"LWS_LEADER_ADDRESS": "leader", "LWS_WORKER_INDEX": "1"}
"""What the controller of LeaderWorkerSets sets in each container."""

NOT_OURS = {"HOME", "USER", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"}
THEIRS = {"vllm": {"/health"}, "router": {"/liveness", "/readiness"}}
"""Paths of vLLM and of vllm-router 0.1.17."""

ROUTER = ROOT / ".venv-router" / "bin" / "vllm-router"


@pytest.fixture(scope="module")
def vllm() -> Any:
    """Its server's command line, as what it makes of arguments."""
    with warnings.catch_warnings(action="ignore"):
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        new_parser: Any = FlexibleArgumentParser
        return make_arg_parser(new_parser(prog="vllm", exit_on_error=False))


def test_every_probe_asks_a_path_on_a_port_that_is_there(chart: Rendered) -> None:
    ours = {route.path for route in router.routes if isinstance(route, APIRoute)}
    for _, container in chart.containers():
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe := container.get(kind):
                assert probe["httpGet"]["port"] in ports
                assert probe["httpGet"]["path"] in THEIRS.get(container["name"], ours)
        if container["name"] == "swires":
            assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_every_server_has_its_probes(chart: Rendered) -> None:
    for _, container in chart.containers():
        if container.get("ports"):
            assert {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"} <= container.keys()


def test_ports_are_those_that_the_commands_open(chart: Rendered) -> None:
    for _, container in chart.containers():
        opened = {int(port) for _, port in re.findall(r"--(prometheus-)?port (\d+)", shlex.join(container["command"]))}
        assert {port["containerPort"] for port in container.get("ports", ())} == opened


def test_every_option_is_one_of_the_commands(chart: Rendered, vllm: Any) -> None:
    for _, container in chart.containers():
        command = [_expanded(word) for word in container["command"]]
        match command:
            case ["swires", *arguments]:
                own, separator, engines = _split(arguments)
                _parser().parse_args(own)
                assert bool(engines) == bool(separator)
                _check_vllm(vllm, engines)
            case ["python", "-m", "vllm.entrypoints.launchers.api_server.entry", *arguments]:
                _check_vllm(vllm, arguments)
            case ["vllm", "serve", model, *arguments]:
                assert _check_vllm(vllm, [model, *arguments]).headless
            case ["hf", "download", *arguments]:
                assert not any(argument.startswith("-") for argument in arguments)
            case ["vllm-router", *_]:
                pass
            case _:
                pytest.fail(f"nobody knows {command}")


@pytest.mark.skipif(not ROUTER.exists(), reason="`make test-router` makes the router's environment")
def test_every_option_is_one_of_the_routers(charts: dict[str, Rendered]) -> None:
    told = subprocess.run([ROUTER, "--help"], capture_output=True, text=True, check=True).stdout
    (container,) = (container for _, container in charts["router"].containers() if container["name"] == "router")
    for option in filter(re.compile("--").match, container["command"]):
        assert re.search(rf"{option}\b", told)


def _expanded(word: str) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: LWS[found[1]], word)


def _split(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at : at + 1], arguments[at + 1 :]


def _check_vllm(vllm: Any, arguments: list[str]) -> argparse.Namespace:
    told: argparse.Namespace
    told, unknown = vllm.parse_known_args(arguments)
    assert not unknown
    return told


def test_every_variable_is_read_by_somebody(chart: Rendered) -> None:
    with warnings.catch_warnings(action="ignore"):
        import vllm.envs

    vllms = {name for name in vllm.envs.environment_variables if name.startswith("VLLM_")}
    ours = {f"SWIRES_{name.upper()}" for name in Settings.model_fields}
    for _, container in chart.containers():
        assert variables(container).keys() <= NOT_OURS | vllms | ours


def test_the_settings_are_what_the_server_takes(chart: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    for _, container in chart.containers():
        if container["name"] != "swires":
            continue
        with monkeypatch.context() as patch:
            for name, value in variables(container).items():
                patch.setenv(name, "a secret" if value is None else value)
            options = vars(_parser().parse_args(_split(container["command"][1:])[0]))
            settings = Settings(model=options["model"], host=options["host"], port=options["port"])
        assert settings.host == "0.0.0.0"
        assert settings.api_keys is not None or settings.allow_no_keys


def test_values_arrive_as_they_were_given(charts: dict[str, Rendered]) -> None:
    (container,) = (container for _, container in charts["gpu"].containers() if container["name"] == "swires")
    told = variables(container)
    assert told["SWIRES_MAX_IMAGE_PIXELS"] == "64000000"
    assert told["SWIRES_TIMEOUT_S"] == "90.5"
    assert told["SWIRES_SCORERS"] == "verifier,judge"
    assert told["SWIRES_OPEN_METRICS"] == "true"
    assert shlex.join(container["command"]).endswith(
        "-- --dtype bfloat16 --gpu-memory-utilization 0.9 --max-model-len 32768"
    )


def test_a_pod_is_given_the_time_that_its_longest_search_needs(chart: Rendered) -> None:
    with warnings.catch_warnings(action="ignore"):
        from server.engine.vllm_engine import STOP_S

    for spec, container in chart.containers():
        if container["name"] == "swires":
            longest = variables(container).get("SWIRES_TIMEOUT_S") or Settings.model_fields["timeout_s"].default
            waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert waits >= 5
            assert spec["terminationGracePeriodSeconds"] >= waits + math.ceil(float(longest)) + FLUSH_S + STOP_S
        if container["name"] == "vllm" and "--shutdown-timeout" in container["command"]:
            asked = container["command"]
            stops = int(asked[asked.index("--shutdown-timeout") + 1])
            assert spec["terminationGracePeriodSeconds"] > stops + container["lifecycle"]["preStop"]["sleep"]["seconds"]


async def test_replicas_follow_metrics_that_there_are(charts: dict[str, Rendered]) -> None:
    async with (
        FakeEngine() as engine,
        connect(create_app(engine, {"fake": FakeScorer()}, Settings(model="demo"))) as client,
    ):
        page = (await client.get("/metrics")).text
    scaled = [manifest for chart in charts.values() for manifest in chart.of("ScaledObject")]
    assert scaled
    for manifest in scaled:
        (trigger,) = manifest["spec"]["triggers"]
        names = set(re.findall(r"\bswires_\w+", trigger["metadata"]["query"]))
        assert names == {"swires_active_searches", "swires_waiting_searches"}
        for name in names:
            assert f"# TYPE {name} gauge" in page


def test_what_is_routed_in_front_is_there(charts: dict[str, Rendered]) -> None:
    paths = [route.path for route in router.routes if isinstance(route, APIRoute)]
    for match in _matches(charts["gateway"].one("HTTPRoute", "search-swires-qwen-7b")):
        assert match["value"] in ("/", "/web/") or any(path.startswith(match["value"]) for path in paths)


def test_nothing_that_tells_of_the_inside_is_routed(charts: dict[str, Rendered]) -> None:
    for match in _matches(charts["gateway"].one("HTTPRoute", "search-swires-qwen-7b")):
        for path in ("/metrics", "/health", "/ready", "/version"):
            assert path != match["value"] if match["type"] == "Exact" else not path.startswith(match["value"])


def _matches(route: Manifest) -> Iterator[Manifest]:
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            yield match["path"]


def test_the_images_are_those_of_the_server_s_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
