"""Two vLLM servers behind vllm-router: `make test-router` installs the router and names this file; `make test` does
not."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from server import sample
from server.engine.http_engine import HttpEngine
from server.serve import bound
from swires.stages import Stage
from swires.types import Sampling
from tests.server.client import Json
from tests.server.running import Running, running_checkpoint

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTER = Path(__file__).parents[2] / ".venv-router" / "bin" / "vllm-router"
VLLM = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
OPTIONS = ("--block-size", "32", "--kv-cache-memory-bytes", str(2**30), "--enable-scale-out")
BY_ITSELF = 'finished_reason="(?:stop|length)"'
READY_S = 300
IDLE_S = 60
ANSWERED_S = 300


@dataclass(frozen=True)
class Listening:
    """A process of ours that answers at `url`, with those that it has started."""

    url: str
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    async def ready(self) -> None:
        while not await self.is_healthy():
            assert self.process.returncode is None, "it has ended, see its log"
            await asyncio.sleep(0.5)

    async def is_healthy(self) -> bool:
        try:
            return (await self.client.get(f"{self.url}/health")).is_success
        except httpx.TransportError:
            return False

    async def metric(self, name: str, label: str = "") -> float:
        told = (await self.client.get(f"{self.url}/metrics")).text
        values = re.findall(rf"^vllm:{name}\{{[^\n]*{label}[^\n]*\}} (\S+)$", told, re.MULTILINE)
        assert values
        return sum(map(float, values))


@asynccontextmanager
async def listening(log: Path, *command: str, port: int | None = None) -> AsyncGenerator[Listening, None]:
    """`command` at `port`, or one of its own, which is ready; it is gone after."""
    port = port or free_port()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, "--port", str(port), stdout=out, stderr=out, start_new_session=True
        )
    async with httpx.AsyncClient() as client:
        started = Listening(f"http://127.0.0.1:{port}", process, client)
        try:
            async with asyncio.timeout(READY_S):
                await started.ready()
            yield started
        finally:
            if process.returncode is None:
                started.kill()
            await process.wait()


def free_port() -> int:
    with bound("127.0.0.1", 0) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replicas(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Listening]]:
    folder = tmp_path_factory.mktemp("replicas")
    serve = (*VLLM, "--host", "127.0.0.1", "--model", str(checkpoint), *OPTIONS)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(listening(folder / f"{name}.log", *serve)) for name in range(2)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(
    replicas: list[Listening], checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[HttpEngine]:
    urls = [replica.url for replica in replicas]
    route = (str(ROUTER), "--policy", "consistent_hash", "--prometheus-port", str(free_port()), "--worker-urls", *urls)
    log = tmp_path_factory.mktemp("router") / "router.log"
    async with listening(log, *route) as router, HttpEngine(str(checkpoint), router.url) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def server(engine: HttpEngine, checkpoint: Path) -> AsyncIterator[Running]:
    async with running_checkpoint(engine, checkpoint) as server:
        yield server


async def ask(client: httpx.AsyncClient, seed: int) -> Json:
    body = {"model": "demo", "messages": [sample.message()], "seed": seed, "swires": {"scorer": "verifier"}}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    answer: Json = reply.json()
    return answer


async def idle(replicas: list[Listening]) -> None:
    start = time.monotonic()
    while any([await replica.metric("num_requests_running") for replica in replicas]):
        assert time.monotonic() - start < IDLE_S
        await asyncio.sleep(0.05)


async def finished(replicas: list[Listening], label: str = "") -> list[float]:
    """How many requests each has done, of all that it was sent."""
    await idle(replicas)
    return [await replica.metric("request_success_total", label) for replica in replicas]


async def test_all_requests_of_a_search_meet_one_replica(replicas: list[Listening], server: Running) -> None:
    homes = set[int]()
    async with server.connect() as client:
        for seed in range(12):
            before = await finished(replicas)
            answer = await ask(client, seed)
            after = await finished(replicas)
            met = [end - start for start, end in zip(before, after, strict=True)]
            assert min(met) == 0
            assert max(met) > answer["swires"]["generations"]  # the verifier's reads besides
            homes.add(met.index(max(met)))
    assert homes == {0, 1}


async def test_a_hang_up_ends_what_the_replica_samples(replicas: list[Listening], engine: HttpEngine) -> None:
    problem = await engine.render([{"role": "user", "content": "How many?"}], [])
    before = sum(await finished(replicas, BY_ITSELF))
    generating = engine.generate(problem, (), stage=Stage.CONCLUSION, n=8, sampling=Sampling(), live=True)
    async with aclosing(generating) as chunks:
        await anext(chunks)
    assert sum(await finished(replicas, BY_ITSELF)) - before < 8
    assert engine.num_running == 0


async def test_a_replica_that_is_killed_costs_no_answer(replicas: list[Listening], server: Running) -> None:
    async with asyncio.timeout(ANSWERED_S), server.connect() as client, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask(client, seed)) for seed in range(40)]
        while not all([await replica.metric("num_requests_running") for replica in replicas]):
            assert not all(task.done() for task in asking)
            await asyncio.sleep(0.05)
        replicas[0].kill()
    answers = [task.result() for task in asking]
    assert all(answer["choices"][0]["message"]["content"] for answer in answers)
    assert not any(answer["swires"]["scorer_degraded"] for answer in answers)
    assert not await replicas[0].is_healthy()
