import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.engine.merge import gathered, merged


class Streams:
    """Streams that say when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def count(self, name: str, end: int, turns: int = 1) -> AsyncGenerator[str, None]:
        try:
            for number in range(end):
                for _ in range(turns):
                    await asyncio.sleep(0)
                yield f"{name}{number}"
        finally:
            self.closed.append(name)

    async def failing(self) -> AsyncGenerator[str, None]:
        await asyncio.sleep(0)
        raise KeyError("broken")
        yield ""


async def test_all_items_arrive_in_the_order_of_each_stream() -> None:
    streams = Streams()
    items = [item async for item in merged([streams.count("a", 3, turns=5), streams.count("b", 3)])]
    assert [item for item in items if item[0] == "a"] == ["a0", "a1", "a2"]
    assert [item for item in items if item[0] == "b"] == ["b0", "b1", "b2"]
    assert items[0] == "b0"
    assert sorted(streams.closed) == ["a", "b"]


async def test_nothing_to_merge() -> None:
    nothing: list[AsyncGenerator[str, None]] = []
    assert [item async for item in merged(nothing)] == []


async def test_closing_closes_the_streams() -> None:
    streams = Streams()
    async with aclosing(merged([streams.count("a", 100), streams.count("b", 100)])) as both:
        await anext(both)
    assert sorted(streams.closed) == ["a", "b"]


async def test_an_error_closes_the_others() -> None:
    streams = Streams()
    with pytest.raises(KeyError, match="broken"):
        [item async for item in merged([streams.count("a", 100), streams.failing()])]
    assert streams.closed == ["a"]


async def test_cancelling_the_reader_closes_the_streams() -> None:
    streams = Streams()

    async def read() -> None:
        async with aclosing(merged([streams.count("a", 10**9)])) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert streams.closed == ["a"]


async def test_what_is_gathered_comes_in_the_order_of_asking() -> None:
    async def later(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await gathered([later(5), later(0), later(2)]) == (5, 0, 2)
    assert await gathered([]) == ()


@pytest.mark.parametrize("broken", [True, False])
async def test_an_error_in_one_or_a_cancellation_ends_all_that_is_gathered(broken: bool) -> None:
    ended = list[str]()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("forever")

    async def failing() -> None:
        await asyncio.sleep(0.01)
        raise KeyError("broken") if broken else asyncio.CancelledError

    with pytest.raises(KeyError if broken else asyncio.CancelledError):
        await gathered([forever(), failing(), forever()])
    assert ended == ["forever"] * 2
