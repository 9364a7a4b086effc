import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from server.disconnect import while_connected


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_returns_what_the_work_returns() -> None:
    async def work() -> int:
        return 7

    assert await while_connected(never, work()) == 7


async def test_raises_what_the_work_raises() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await while_connected(never, work())


async def test_a_hang_up_cancels_the_work_and_waits_for_its_clean_up() -> None:
    told: list[str] = []
    hung_up = asyncio.Event()

    async def receive() -> Message:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def work() -> None:
        hung_up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("cleaned up")

    with pytest.raises(ClientDisconnect):
        await while_connected(receive, work())
    assert told == ["cleaned up"]


async def test_left_over_parts_of_the_body_are_no_hang_up() -> None:
    messages: list[Message] = [{"type": "http.request"}, {"type": "http.request"}]
    read = asyncio.Event()

    async def receive() -> Message:
        if messages:
            return messages.pop()
        read.set()
        return await never()

    async def work() -> str:
        await read.wait()
        return "done"

    assert await while_connected(receive, work()) == "done"


async def test_being_cancelled_cancels_the_work() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(while_connected(never, work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
