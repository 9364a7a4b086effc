"""When an engine counts as stalled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from server.engine.fake import FakeEngine
from server.watchdog import Watched
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling
from tests.server.client import Held

PROBLEM = Problem("How many?", 10)


@asynccontextmanager
async def asking(watched: Watched, held: Held) -> AsyncIterator[asyncio.Task[list[Chunk]]]:
    """A request that the engine keeps waiting."""

    async def read() -> list[Chunk]:
        stream = watched.generate(PROBLEM, (), stage=Stage.SUMMARY, n=2, sampling=Sampling())
        async with aclosing(stream) as chunks:
            return [chunk async for chunk in chunks]

    held.reached.clear()
    task = asyncio.create_task(read())
    await held.reached.wait()
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_silence_counts_while_a_request_waits() -> None:
    held = Held()
    held.arm()
    watched = Watched(FakeEngine(step=held), 3)
    for _ in range(9):
        watched.tick(1)
    assert not watched.stalled
    async with asking(watched, held):
        watched.tick(2)
        assert not watched.stalled
        watched.tick(1)
        assert watched.stalled


async def test_requests_that_give_up_do_not_begin_the_count_again() -> None:
    held = Held()
    held.arm()
    watched = Watched(FakeEngine(step=held), 3)
    for _ in range(3):
        assert not watched.stalled
        async with asking(watched, held):
            watched.tick(1)
    assert watched.stalled


async def test_a_word_does() -> None:
    held = Held()
    held.arm()
    watched = Watched(FakeEngine(step=held), 3)
    async with asking(watched, held) as task:
        watched.tick(2)
        held.let_go.set()
        chunks = await task
        watched.tick(2)
    assert {chunk.index for chunk in chunks} == {0, 1}
    assert not watched.stalled
