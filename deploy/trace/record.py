"""One search of a server over real vLLM, traced: the server is started with a receiver here as its collector."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from deploy.trace.receiver import Received, Receiver
from server import sample

START_S = 300
STOP_S = 60
ASKED: Mapping[str, Any] = {"policy": "swires", "preset": "balanced", "accept_z": 1.5, "max_retraces": 1}
"""Few answers are that good: most such searches retrace."""


@dataclass(frozen=True)
class Recorded:
    """All spans of the server, of its start too; `log` is what it told on stderr."""

    spans: tuple[Received, ...]
    log: str
    answer: Mapping[str, Any]


async def recorded(model: str, *options: str, asked: Mapping[str, Any] = ASKED) -> Recorded:
    """Raises RuntimeError where the server does not get ready."""
    receiver, port = Receiver(), _free_port()
    url = f"http://127.0.0.1:{port}"
    with receiver.over_grpc() as endpoint, TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        serve = ("serve", "--model", model, "--port", str(port), "--otlp-traces-endpoint", endpoint, *options)
        with path.open("wb") as log:
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server", *serve), stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
        try:
            async with asyncio.timeout(START_S), httpx.AsyncClient(base_url=url, timeout=None) as client:
                await _ready(client, server)
                name = (await client.get("/v1/models")).json()["data"][0]["id"]
                body = {"model": name, "messages": [sample.message()], "seed": 1, "swires": dict(asked)}
                answer = await client.post("/v1/chat/completions", json=body)
        finally:
            with suppress(ProcessLookupError):
                server.terminate()
            async with asyncio.timeout(STOP_S):
                await server.wait()
        return Recorded(tuple(receiver.spans), path.read_text(), answer.raise_for_status().json())


async def _ready(client: httpx.AsyncClient, server: asyncio.subprocess.Process) -> None:
    while server.returncode is None:
        with suppress(httpx.TransportError):
            if (await client.get("/ready")).is_success:
                return
        await asyncio.sleep(0.2)
    raise RuntimeError("the server did not get ready")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
