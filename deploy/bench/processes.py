"""The processes that rows are asked of: servers, and children that answer a line of JSON with a line of JSON.

All run at once and are used in turn: an engine that has nothing to do takes 0.4 % of a core, each of its processes.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Json: TypeAlias = dict[str, Any]

START_S = 300
LINE_LIMIT = 1 << 24
SAMPLE_S = 0.5
MIB = 1 << 20


class BenchError(Exception):
    """The benchmark cannot go on; the message is one line."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Of all requests to an engine so far: those found in its prefix cache, and all others."""

    cached: float
    computed: float

    @classmethod
    def read(cls, metrics: str) -> "PromptTokens":
        totals = dict.fromkeys(("vllm:prompt_tokens", "vllm:prompt_tokens_cached"), 0.0)
        for family in text_string_to_metric_families(metrics):
            if family.name in totals:
                totals[family.name] = sum(each.value for each in family.samples if each.name.endswith("_total"))
        prompt, cached = totals.values()
        return cls(cached, prompt - cached)

    def since(self, before: "PromptTokens") -> "PromptTokens":
        return PromptTokens(self.cached - before.cached, self.computed - before.computed)


class Running(Protocol):
    @property
    def pid(self) -> int: ...

    async def metrics(self) -> str:
        """As Prometheus reads them, empty for one without an engine."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """An HTTP server."""

    session: aiohttp.ClientSession
    url: str
    pid: int

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics") as reply:
            return await reply.text()


@dataclass(slots=True)
class Child:
    """A process that answers lines, in any order: each carries the id of the one that it answers."""

    process: asyncio.subprocess.Process
    name: str
    ids: Iterator[int] = field(default_factory=count)
    waiting: dict[int, asyncio.Future[Json]] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ask(self, request: Mapping[str, Any]) -> Json:
        """Raises BenchError where the child fails."""
        number = next(self.ids)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
        return await self.waiting[number]

    async def metrics(self) -> str:
        told = await self.ask({"row": "metrics"})
        return str(told["metrics"])

    async def read(self) -> None:
        """Hand on the answers until there are no more."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            waiting = self.waiting.pop(told.pop("id"))
            if "error" in told:
                waiting.set_exception(BenchError(f"{self.name}: {told['error']}"))
            else:
                waiting.set_result(told)
        for waiting in self.waiting.values():
            waiting.set_exception(BenchError(f"{self.name} has ended"))


@asynccontextmanager
async def server(command: Sequence[str], url: str, ready: str) -> AsyncIterator[Server]:
    """Runs until the context ends. Raises BenchError where it does not get ready."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        _process(command) as process,
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session,
    ):
        await _ready(session, url + ready, process, command)
        yield Server(session, url, process.pid)


async def _ready(
    session: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process, command: Sequence[str]
) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with suppress(aiohttp.ClientError):
                    async with session.get(url) as reply:
                        if reply.ok:
                            return
                await asyncio.sleep(0.5)
    raise BenchError(f"did not get ready: {' '.join(command)}")


@asynccontextmanager
async def child(command: Sequence[str]) -> AsyncIterator[Child]:
    """Runs until the context ends. Raises BenchError where it does not get ready."""
    async with _process(command, stdout=asyncio.subprocess.PIPE) as process:
        started = Child(process, " ".join(command))
        reading = asyncio.create_task(started.read())
        try:
            await asyncio.wait_for(started.ask({"row": "metrics"}), START_S)
            yield started
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
            await reading


@asynccontextmanager
async def _process(
    command: Sequence[str], *, stdout: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=stdout, limit=LINE_LIMIT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def peak_memory(pids: Sequence[int]) -> AsyncIterator[list[float]]:
    """The greatest resident size in MiB of the processes and their children, from when the context begins; the list's
    one item, set when it ends."""
    peak = [_resident_mib(pids)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            peak[0] = max(peak[0], _resident_mib(pids))

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()


def _resident_mib(pids: Iterable[int]) -> float:
    processes = {each for pid in pids for each in with_children(pid)}
    return sum(_resident_pages(each) for each in processes) * os.sysconf("SC_PAGE_SIZE") / MIB


def _resident_pages(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0


def with_children(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from with_children(int(child))


def python(module: str, *arguments: str, executable: str = sys.executable) -> list[str]:
    return [executable, "-m", module, *arguments]
