"""Several streams read as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
