"""A client that hangs up at any point of its request: of what was held for it, nothing is left.

How long that took is told as a property of each test; on a machine that has much else to do it may be long.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from server import images, routes
from server.app import create_app
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.protocols import Chunk, Scores
from swires.stages import Stage
from swires.types import Problem, Sampling, Trajectory
from tests.server.client import chat
from tests.server.gate.raw import LIMIT_S, opened, post, until
from tests.server.gate.verbose import Verbose, at_length
from tests.server.left import left
from tests.server.running import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

FREE_TOKENS = 3
CAPACITY = 2
SOON_S = 0.1
"""By then, what has been sent has come."""

LONG = 8_000_000
"""Characters of an answer that no buffer of a socket takes."""

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
SEARCH = {"policy": "stage_beam", "candidates": 2, "keep": 1, "events": True}

POINTS = (
    "checking the schema",
    "rendering",
    *(f"{doing} {stage.name}" for stage in Stage for doing in ("before", "sampling", "scoring")),
)

Record = Callable[[str, object], None]


@dataclass
class Halt:
    """Whoever comes to `point` stands still there."""

    point: str | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def at(self, point: str) -> None:
        if point == self.point:
            self.reached.set()
            await asyncio.Event().wait()


class HaltingEngine(Verbose):
    def __init__(self, halt: Halt) -> None:
        super().__init__(LONG)
        self.halt = halt
        self._step = self._step_of_stage
        self._stage = Stage.SUMMARY
        self._num_steps = 0

    async def render(self, messages, images):  # type: ignore[no-untyped-def]
        await self.halt.at("rendering")
        return await super().render(messages, images)

    async def check_schema(self, schema: str) -> None:
        await self.halt.at("checking the schema")

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        self._stage, self._num_steps = stage, 0
        await self.halt.at(f"before {stage.name}")
        stream = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _step_of_stage(self) -> None:
        self._num_steps += 1
        if self._num_steps > FREE_TOKENS:
            await self.halt.at(f"sampling {self._stage.name}")
        await asyncio.sleep(0)


class HaltingScorer(FakeScorer):
    def __init__(self, halt: Halt) -> None:
        self._halt = halt

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        await self._halt.at(f"scoring {trajectories[0].last.stage.name}")
        return await super().score(problem, trajectories)


@dataclass(frozen=True)
class Site:
    app: FastAPI
    engine: HaltingEngine
    server: Running

    @asynccontextmanager
    async def client(
        self, point: str | None = None, *, half: bool = False, **fields: object
    ) -> "AsyncIterator[Client]":
        """One that asks, and is let go on as far as `point`."""
        before = asyncio.all_tasks()
        self.engine.halt.point = point
        self.engine.halt.reached.clear()
        reader, writer = await opened(self.server)
        request = post(chat(**fields))
        writer.write(request[: len(request) // 2] if half else request)
        try:
            yield Client(self, reader, writer, before)
        finally:
            writer.close()
            self.engine.halt.point = None


@dataclass(frozen=True)
class Client:
    site: Site
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    before: set[asyncio.Task[Any]]

    async def hung_up(self) -> float:
        """The seconds after which nothing is left of it."""
        self.writer.close()
        start = time.monotonic()
        await until(lambda: not left(self.site.app, self.before))
        return time.monotonic() - start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    halt = Halt()
    settings = Settings.model_validate({"model": "demo", "max_candidates": CAPACITY})
    async with HaltingEngine(halt) as engine:
        app = create_app(engine, {"fake": HaltingScorer(halt)}, settings)
        async with running(app) as server:
            yield Site(app, engine, server)


STREAM = pytest.mark.parametrize("stream", [False, True])


@STREAM
@pytest.mark.parametrize("point", POINTS)
async def test_at_every_point_of_a_search(site: Site, point: str, stream: bool, record_property: Record) -> None:
    async with site.client(point, stream=stream, swires=SEARCH, response_format=SCHEMA) as client:
        async with asyncio.timeout(LIMIT_S):
            await site.engine.halt.reached.wait()
        assert left(site.app)
        record_property("seconds", await client.hung_up())


async def test_before_the_request_is_whole(site: Site, record_property: Record) -> None:
    async with site.client(half=True) as client:
        await until(lambda: "places at the gate" in left(site.app))
        record_property("seconds", await client.hung_up())


@STREAM
async def test_in_the_line(site: Site, stream: bool, record_property: Record) -> None:
    scheduler = site.app.state.service.scheduler
    async with site.client("sampling SUMMARY", swires=SEARCH) as first:
        await until(site.engine.halt.reached.is_set)
        async with site.client("sampling SUMMARY", stream=stream, swires=SEARCH) as second:
            await until(lambda: scheduler.num_waiting == 1 and "places at the gate" not in left(site.app))
            second.writer.close()
            start = time.monotonic()
            await until(lambda: scheduler.num_waiting == 0)
            record_property("seconds", time.monotonic() - start)
            assert scheduler.num_running == 1
        await first.hung_up()


@STREAM
async def test_before_there_is_room_to_decode_its_image(site: Site, stream: bool) -> None:
    rendering = site.app.state.service.rendering
    places = rendering._value
    for _ in range(places):
        await rendering.acquire()
    try:
        async with site.client(stream=stream) as client:
            await until(lambda: bool(rendering._waiters))
            client.writer.close()
            await until(lambda: set(left(site.app)) == {"places for rendering"})
    finally:
        for _ in range(places):
            rendering.release()


@STREAM
async def test_while_its_image_is_decoded(site: Site, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def decoded(*_: object) -> None:
        begun.set()
        go_on.wait(2 * LIMIT_S)

    monkeypatch.setattr(images, "_decoded", decoded)
    try:
        async with site.client(stream=stream) as client:
            await until(begun.is_set)
            await client.hung_up()
    finally:
        go_on.set()


@STREAM
async def test_while_it_is_told_what_it_would_cost(site: Site, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def estimate(*_: object) -> None:
        begun.set()
        go_on.wait(2 * LIMIT_S)

    monkeypatch.setattr(routes, "estimate", estimate)
    try:
        async with site.client(stream=stream, swires={"dry_run": True}) as client:
            await until(begun.is_set)
            async with site.client(stream=stream, swires={"dry_run": True}) as other:
                await until(lambda: left(site.app).get("places at the gate") == 2)
                other.writer.close()
                await until(lambda: left(site.app).get("places at the gate") == 1)
            await client.hung_up()
    finally:
        go_on.set()


@STREAM
async def test_while_its_answer_is_written(site: Site, stream: bool, record_property: Record) -> None:
    async with site.client(messages=at_length(), stream=stream, swires={"policy": "greedy"}) as client:
        await client.reader.readuntil(b"\r\n\r\n")
        record_property("seconds", await client.hung_up())


@STREAM
async def test_with_more_of_its_requests_on_the_way(site: Site, stream: bool) -> None:
    async with site.client("sampling CAPTION", stream=stream, swires=SEARCH) as client:
        await until(site.engine.halt.reached.is_set)
        client.writer.write(post(chat(swires=SEARCH)))
        await asyncio.sleep(SOON_S)
        await client.hung_up()


async def test_whoever_asks_then_is_answered(site: Site) -> None:
    async with site.client("nowhere", swires=SEARCH) as client:
        assert (await client.reader.readuntil(b"\r\n")).split()[1] == b"200"
        await client.hung_up()
