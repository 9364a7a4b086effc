"""Servers in processes of their own, under load: what they answer is recorded, and what they take is measured."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from pydantic_core import from_json

from deploy.bench.simulate_inputs import ROOT, RecordedCandidate, RecordedSearch, Workload

BLOCK = 32
"""Of the engine on the CPU, in tokens."""
CLIENTS = 8
RECORD_S, FRONT_S = 60, 30


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a process of its own."""

    url: str
    pid: int

    @property
    def front_s(self) -> float:
        """What this process, without its engine's, has computed so far."""
        return _computed_s(self.pid)

    @property
    def core_s(self) -> float:
        """What all of its processes have."""
        return sum(_computed_s(pid) for pid in _with_children(self.pid))


def _computed_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _with_children(int(child))


@asynccontextmanager
async def serving(model: str, core: int, port: int) -> AsyncIterator[Running]:
    """A server with all of its engine on one core, from ready to stopped."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "server", "serve", "--log-level", "error"]
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": str(core), "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, "--model", model, "--port", str(port), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await _ready(url, process)
        yield Running(url, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient() as client:
        while process.returncode is None:
            try:
                if (await client.get(f"{url}/ready")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(1)
    raise RuntimeError(f"the server ended with status {process.returncode} before it was ready")


@dataclass(frozen=True, slots=True)
class Answered:
    """The `swires` object of an answer, and when it came after the load began."""

    after_s: float
    told: Mapping[str, Any]


async def closed_load(
    url: str,
    questions: Sequence[Mapping[str, str]],
    seconds: float,
    *,
    clients: int,
    swires: Mapping[str, Any] = MappingProxyType({}),
) -> list[Answered]:
    """What came within `seconds` to clients each of which asks again at once."""
    answers, started = list[Answered](), time.perf_counter()

    async def ask(client: httpx.AsyncClient) -> None:
        for question in asked:
            answer = await client.post("/v1/chat/completions", json=_body(question, swires))
            told = answer.raise_for_status().json()["swires"]
            answers.append(Answered(time.perf_counter() - started, told))

    asked = cycle(questions)
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                for _ in range(clients):
                    tasks.create_task(ask(client))
    return answers


def _body(question: Mapping[str, str], swires: Mapping[str, Any]) -> dict[str, Any]:
    parts = [
        {"type": "image_url", "image_url": {"url": question["image"]}},
        {"type": "text", "text": question["question"]},
    ]
    return {"model": "demo", "messages": [{"role": "user", "content": parts}], "swires": dict(swires)}


def questions(model: str) -> list[dict[str, str]]:
    """Those that come with the checkpoint."""
    lines = (Path(model) / "questions.jsonl").read_text().splitlines()
    return [from_json(line) for line in lines]


async def recorded_workload(model: str, core: int, port: int, *, source: str) -> tuple[Workload, float]:
    """Searches of the checkpoint's questions, and what one request to the engine takes of the server's process."""
    async with serving(model, core, port) as server:
        traced = await closed_load(server.url, questions(model), RECORD_S, clients=CLIENTS, swires={"trace": True})
        workload = Workload(source=source, block=BLOCK, searches=tuple(recorded(each.told) for each in traced))
        before = server.front_s
        answered = await closed_load(server.url, questions(model), FRONT_S, clients=CLIENTS)
        front_s = (server.front_s - before) / len(answered)
    return workload, front_s / workload.requests_per_search


def recorded(answer: Mapping[str, Any]) -> RecordedSearch:
    """A search from the tree in its answer."""
    nodes = answer["trace"]
    places = {None: ROOT, **{node["id"]: place for place, node in enumerate(nodes)}}
    read: set[tuple[int, str]] = set()
    candidates, expansion, stage = [], -1, None
    for node in nodes:
        expansion, stage = expansion + (node["stage"] != stage), node["stage"]
        known = (places[node["parent"]], node["text"])
        candidates.append(
            RecordedCandidate(
                expansion, known[0], max(1, node["tokens"]), node["score"] is not None and known not in read
            )
        )
        read.add(known)
    return RecordedSearch(answer["tokens"]["prompt"], tuple(candidates))
