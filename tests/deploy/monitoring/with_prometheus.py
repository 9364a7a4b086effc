"""Prometheus' own tools on the rules, and a Prometheus that looks at a real server under load; `make test-monitoring`
names this file, `make test` does not."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.grafana.picture import PICTURE, Prometheus, draw, panels
from server.serve import bound
from tests.deploy.monitoring.known import DEPLOY, recorded
from tests.deploy.monitoring.load import loaded

RULES = DEPLOY / "prometheus"
LOAD_S = 130
START_S = 180


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: `apt-get install prometheus` brings it", pytrace=False)
    return found


@pytest.mark.parametrize("name", ["recording.yaml", "alerts.yaml"])
def test_rules_are_ones_of_prometheus(name: str) -> None:
    subprocess.run([tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", name], cwd=RULES, check=True)


@pytest.mark.parametrize("name", ["recording_test.yaml", "alerts_test.yaml"])
def test_rules_say_what_is_so(name: str) -> None:
    subprocess.run([tool("promtool"), "test", "rules", name], cwd=RULES, check=True)


def test_the_configuration_for_compose_is_one_of_prometheus() -> None:
    subprocess.run([tool("promtool"), "check", "config", "prometheus.yaml"], cwd=RULES, check=True)


async def test_under_load_every_query_of_the_dashboard_and_every_rule_has_values(
    tmp_path: Path, checkpoint: Path, write_docs: bool
) -> None:
    with serving(tmp_path, checkpoint) as url, prometheus(tmp_path, url) as watching:
        async with loaded(url, seconds=LOAD_S):
            pass
        empty = [
            f"{panel['title']}: {target['expr']}"
            for panel in panels()
            for target in panel.get("targets", ())
            if not watching.lines(target, start=time.time() - LOAD_S, end=time.time(), step_s=5)
        ]
        silent = sorted(name for name in recorded() if not watching.now(name))
        draw(watching, minutes=(LOAD_S + 15) / 60, out=PICTURE if write_docs else tmp_path / PICTURE.name)
    assert (empty, silent) == ([], [])


@contextmanager
def serving(folder: Path, checkpoint: Path) -> Iterator[str]:
    """Room for few, so that some are refused; a scorer that has too little time now and then."""
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--model", str(checkpoint), "--served-name", "demo"]
    limits = ["--max-candidates", "16", "--max-waiting", "8", "--scorer-timeout-s", "0.1", "--log-level", "error"]
    url = f"http://127.0.0.1:{port}"
    with child([*command, *limits, "--port", str(port)], folder / "server.log", f"{url}/ready"):
        yield url


@contextmanager
def prometheus(folder: Path, url: str) -> Iterator[Prometheus]:
    settings = yaml.safe_load((RULES / "prometheus.yaml").read_text())
    settings["global"] = {"scrape_interval": "2s", "evaluation_interval": "5s"}
    settings["rule_files"] = [str(RULES / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [url.removeprefix("http://")]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with child(command, folder / "prometheus.log", f"http://{address}/-/ready"):
        yield Prometheus(f"http://{address}", rate_interval="30s")


@contextmanager
def child(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """A process that is up once `ready` answers 200, stopped at the end."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_S
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{command[0]} does not start:\n{log.read_text()[-2000:]}", pytrace=False)
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with bound("127.0.0.1", 0) as sock:
        port: int = sock.getsockname()[1]
        return port
