"""What a server holds: memory, files and threads of its processes by /proc, tasks and searches by its own word."""

import asyncio
import json
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from deploy.bench.processes import Server, with_children
from deploy.bench.soak_server import HELD

MIB = 1 << 20
IDLE_S = 60
SETTLED_S = 0.5
SAMPLE_S = 1.0
NAMES = {"EngineCor": "engine core", "Worker": "worker"}
COUNTED = ("swires_searches", "swires_refusals")
BUSY = ("swires_active_searches", "swires_waiting_searches", "vllm:num_requests_running", "vllm:num_requests_waiting")


@dataclass(frozen=True, slots=True)
class Rest:
    """What is held when nothing is asked; `mib` and `threads` by process, `busy` what should be nothing, `counted` by
    outcome or status."""

    num_answered: int
    at_s: float
    mib: Mapping[str, float]
    threads: Mapping[str, int]
    num_files: int
    tasks: Mapping[str, int]
    busy: Mapping[str, float]
    counted: Mapping[str, float]

    @property
    def num_tasks(self) -> int:
        return sum(self.tasks.values())


async def at_rest(server: Server, num_answered: int, at_s: float, num_tasks: float = math.inf) -> Rest:
    """Once the server has nothing to do, and no more tasks than these, or does not come to that."""
    told, (busy, counted) = await _held(server), await _metrics(server)
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S):
            while told["searches"] or told["requests"] or any(busy.values()) or sum(told["tasks"].values()) > num_tasks:
                await asyncio.sleep(0.2)
                told, (busy, counted) = await _held(server), await _metrics(server)
    await asyncio.sleep(SETTLED_S)  # until who has asked is gone
    return Rest(
        num_answered,
        round(at_s, 1),
        resident_mib(server.pid),
        _by_name(server.pid, lambda pid: len(os.listdir(f"/proc/{pid}/task"))),  # noqa: PTH208  fewer files open
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in with_children(server.pid)),  # noqa: PTH208
        told["tasks"],
        {"searches": told["searches"], "requests": told["requests"], **busy},
        counted,
    )


@asynccontextmanager
async def watched(pid: int, num_answered: Callable[[], int]) -> AsyncIterator[list[tuple[int, dict[str, float]]]]:
    """The memory of the processes while the context lasts, over the searches that were answered by then."""
    samples: list[tuple[int, dict[str, float]]] = []

    async def watch() -> None:
        while True:
            samples.append((num_answered(), resident_mib(pid)))
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield samples
    finally:
        watching.cancel()


def resident_mib(pid: int) -> dict[str, float]:
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = _by_name(pid, lambda each: int(Path(f"/proc/{each}/statm").read_text().split()[1]) * page)
    return {name: round(size / MIB, 1) for name, size in sizes.items()}


def _by_name(pid: int, measure: Callable[[int], int]) -> dict[str, int]:
    """Summed up over processes of one name; some may be gone."""
    found: Counter[str] = Counter()
    for each in with_children(pid):
        with suppress(OSError):
            found["server" if each == pid else _name(each)] += measure(each)
    return dict(found)


def _name(pid: int) -> str:
    command = Path(f"/proc/{pid}/comm").read_text()
    return next((name for part, name in NAMES.items() if part in command), "others")


async def _held(server: Server) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(await _got(server, HELD))
    return held


async def _metrics(server: Server) -> tuple[dict[str, float], dict[str, float]]:
    """What should be nothing, and what is counted by outcome or status."""
    busy, counted = dict[str, float](), dict[str, float]()
    for family in text_string_to_metric_families(await _got(server, "/metrics")):
        for sample in family.samples:
            if family.name in BUSY:
                busy[family.name] = busy.get(family.name, 0) + sample.value
            elif family.name in COUNTED and sample.name.endswith("_total"):
                kind = f"{family.name} {sample.labels.get('outcome', sample.labels.get('status'))}"
                counted[kind] = counted.get(kind, 0) + sample.value
    return busy, counted


async def _got(server: Server, path: str) -> str:
    async with server.session.get(server.url + path, headers={"Connection": "close"}) as answer:
        return await answer.text()
