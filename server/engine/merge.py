"""Several streams read as one."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


async def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Yield what the streams yield as it comes; closing this, or an error in one, closes all of them."""
    arrivals: asyncio.Queue[T | asyncio.Task[None]] = asyncio.Queue()

    async def forward(stream: AsyncGenerator[T, None]) -> None:
        async with aclosing(stream):
            async for item in stream:
                arrivals.put_nowait(item)

    tasks = [asyncio.create_task(forward(stream)) for stream in streams]
    for task in tasks:
        task.add_done_callback(arrivals.put_nowait)
    running = len(tasks)
    try:
        while running:
            item = await arrivals.get()
            if isinstance(item, asyncio.Task):
                item.result()
                running -= 1
            else:
                yield item
    finally:
        await _ended(tasks)


async def gathered(reads: Sequence[Coroutine[Any, Any, T]]) -> tuple[T, ...]:
    """What the reads, run side by side, come to, in their order; an error in one ends all of them."""
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        await _ended(tasks)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
