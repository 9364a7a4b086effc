"""A wall clock that jumps by hours, back and forth: nothing that the server times goes by it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from server.engine.fake import FakeEngine
from swires.errors import EngineError
from swires.stages import Stage
from tests.server.client import Held, ask
from tests.server.conftest import Started
from tests.server.faults.answers import search_of
from tests.server.faults.stages import FromStage, Gate
from tests.server.running import running

HOUR_S = 3600.0


def backwards(now: Callable[[], float]) -> Iterator[float]:
    """Each time it is looked at, an hour earlier."""
    late = 0.0
    while True:
        late += HOUR_S
        yield now() - late


def to_and_fro(now: Callable[[], float]) -> Iterator[float]:
    for jump in cycle((0, 5 * HOUR_S, -7 * HOUR_S)):
        yield now() + jump


@pytest.fixture(params=[backwards, to_and_fro], autouse=True)
def jumping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    times = request.param(time.time)
    monkeypatch.setattr(time, "time", lambda: next(times))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_takes_the_seconds_that_it_takes(serving: Started, stream: bool) -> None:
    async with serving() as app, running(app) as server, server.connect() as client:
        told = search_of(await ask(client, stream=stream), stream=stream)
        assert 0 < told["seconds"] < 30
        assert told["stopped_by"] is None


async def test_a_deadline_comes_when_it_should(serving: Started) -> None:
    engine = FromStage(Stage.SUMMARY, Gate())
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        start = time.monotonic()
        assert (await ask(client, swires={"timeout_s": 0.3})).status_code == 504
        assert 0.2 < time.monotonic() - start < 10


async def test_who_is_refused_is_told_a_few_seconds(serving: Started) -> None:
    held = Held()
    engine = FakeEngine(step=held)
    full = {"max_candidates": 1, "max_waiting": 0}
    async with serving(engine, **full) as app, running(app) as server, server.connect() as client:
        assert (await ask(client)).status_code == 200
        held.arm()
        asking = asyncio.create_task(ask(client))
        await held.reached.wait()
        refused = await ask(client)
        assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) < 30) == (503, True)
        held.let_go.set()
        assert (await asking).status_code == 200


async def test_a_stream_is_kept_alive(serving: Started) -> None:
    engine = FromStage(Stage.SUMMARY, gate := Gate())
    async with serving(engine, keep_alive_s=0.05) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        asking = asyncio.create_task(ask(client, stream=True))
        await gate.reached.wait()
        await asyncio.sleep(0.3)
        gate.opened.set()
        comments = [line for line in (await asking).text.split("\n\n") if line.startswith(":")]
        assert 2 <= len(comments) <= 7


async def test_a_dead_engine_is_noticed(serving: Started) -> None:
    engine = FakeEngine()
    async with serving(engine) as app, running(app) as server:
        await asyncio.sleep(0.5)
        engine.alive = False
        with pytest.raises(EngineError, match="the engine died"):
            await server.task
