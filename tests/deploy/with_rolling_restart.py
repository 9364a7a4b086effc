"""Two servers behind vllm-router, restarted one after the other under load: `make test-rolling` installs the router and
names this file; `make test` does not."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic_core import from_json

from server import sample
from tests.engine.with_router import ROUTER, Listening, free_port, listening
from tests.server.client import Json

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENTS = 8
DRAINED_S = 60
TAKEN_IN_S = 60
HEALTH = (
    *("--health-check-endpoint", "/ready", "--health-check-interval-secs", "2"),
    *("--cb-timeout-duration-secs", "5"),
)
"""Of the router, which else looks each minute, and asks nothing of a server for a minute that was away."""


@dataclass
class Replica:
    """A server of the embedded checkpoint that may be started again at the same port."""

    command: tuple[str, ...]
    log: Path
    port: int = field(default_factory=free_port)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        self.started = await self.stack.enter_async_context(listening(self.log, *self.command, port=self.port))

    async def restart(self) -> None:
        await self.drain()
        await self.stack.aclose()
        await self.start()

    async def taken_in(self) -> None:
        """Until the router sends it work: the other one is not to go before."""
        for _ in range(TAKEN_IN_S):
            if await self.has_answered():
                return
            await asyncio.sleep(1)
        raise TimeoutError("the router sends it nothing")

    async def has_answered(self) -> bool:
        told = (await self.started.client.get(f"{self.started.url}/metrics")).text
        return "swires_searches_total{" in told

    async def drain(self) -> None:
        self.started.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DRAINED_S):
            assert await self.started.process.wait() == 0


def on_core(core: int) -> tuple[str, ...]:
    """For the engine, which vLLM would bind to the first one: on a core that the other keeps busy it does not start."""
    return ("env", f"VLLM_CPU_OMP_THREADS_BIND={core}")


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(checkpoint: Path, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    serve = (sys.executable, "-m", "server", "serve", "--model", str(checkpoint), "--served-name", "demo")
    replicas = [Replica((*on_core(core), *serve), tmp_path / f"{core}.log") for core in range(2)]
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stack.aclose)
        yield replicas


@pytest_asyncio.fixture(loop_scope="session")
async def router(replicas: list[Replica], tmp_path: Path) -> AsyncIterator[Listening]:
    urls = [replica.started.url for replica in replicas]
    route = (str(ROUTER), "--policy", "round_robin", "--prometheus-port", str(free_port()), *HEALTH)
    async with listening(tmp_path / "router.log", *route, "--worker-urls", *urls) as router:
        yield router


async def ask(client: httpx.AsyncClient, seed: int) -> None:
    """In JSON or in a stream, by turns; it has to be answered at the first try."""
    body: Json = {"model": "demo", "messages": [sample.message()], "seed": seed, "stream": seed % 2 == 1}
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.status_code == 200, await reply.aread()
        told = (await reply.aread()).decode()
    if body["stream"]:
        *chunks, done = (line.removeprefix("data: ") for line in told.split("\n") if line.startswith("data: "))
        assert done == "[DONE]"
        assert from_json(chunks[-1])["choices"][0]["finish_reason"] == "stop"
    else:
        assert from_json(told)["choices"][0]["message"]["content"]


async def test_a_rolling_restart_loses_no_search(replicas: list[Replica], router: Listening) -> None:
    answered = [0] * CLIENTS
    over = asyncio.Event()

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        while not over.is_set():
            await ask(client, number + CLIENTS * answered[number])
            answered[number] += 1

    async with httpx.AsyncClient(base_url=router.url, timeout=None) as client, asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(keep_asking(client, number))
        for replica in replicas:
            before = sum(answered)
            await replica.restart()
            await replica.taken_in()
            assert sum(answered) > before + CLIENTS  # by the other one
        over.set()
    print(f"{sum(answered)} of {sum(answered)} searches answered while both servers were restarted")
