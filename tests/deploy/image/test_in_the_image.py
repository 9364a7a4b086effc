"""The few files that an image holds beside the server."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deploy.image import lacking

IMAGE = Path(__file__).parents[3] / "deploy" / "image"
LOCK = f"""# a comment
pytest==0.1 ; sys_platform == 'linux' \\
    --hash=sha256:{"0" * 64}
swires-probe==1.0 ; sys_platform == 'linux' \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
other-probe==2.0 --hash=sha256:{"3" * 64}
"""


@pytest.mark.parametrize(
    ("told", "port"),
    [
        ({}, "8000"),
        ({"PORT": "9000"}, "9000"),
        ({"PORT": "9000", "SWIRES_PORT": "9001"}, "9001"),
        ({"PORT": ""}, "8000"),
    ],
)
def test_the_port_is_what_the_platform_tells(tmp_path: Path, told: Mapping[str, str], port: str) -> None:
    (swires := tmp_path / "swires").write_text('#!/bin/sh\necho "$$" "$@"\n')
    swires.chmod(0o755)
    command = [str(IMAGE / "serve"), "--model", "my model"]
    with subprocess.Popen(
        command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **told}, stdout=subprocess.PIPE, text=True
    ) as process:
        out, _ = process.communicate()
    assert out.split(maxsplit=1) == [str(process.pid), f"serve --port {port} --model my model\n"]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on loopback that answers thus on /ready, and 404 elsewhere; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *parts: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def asked(**variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(IMAGE / "ready.py")]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_is_readiness(status: int, code: int) -> None:
    with answering(status) as port:
        assert asked(PORT=str(port)).returncode == code
        assert asked(PORT="1", SWIRES_PORT=str(port)).returncode == code
        assert asked(PORT=str(port), http_proxy="http://127.0.0.1:1").returncode == code
    after = asked(PORT=str(port))
    assert after.returncode == 1
    assert "refused" in after.stdout


def test_what_is_there_is_not_installed_again() -> None:
    assert "".join(lacking.lacking(LOCK)) == LOCK.partition("swires-probe")[1] + LOCK.partition("swires-probe")[2]


def test_what_is_asked_for_and_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = ["pytest>=1", "pytest<1", "swires-probe", 'other-probe; extra == "dev"', 'other-probe; python_version < "3"']
    monkeypatch.setattr("importlib.metadata.requires", lambda project: asks)
    told = list(lacking.unmet("project"))
    assert [line.partition(", here is ")[0] for line in told] == [
        "project asks for pytest<1",
        "project asks for swires-probe",
    ]
    assert told[1].endswith("here is none")
