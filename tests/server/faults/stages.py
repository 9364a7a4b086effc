"""An engine that goes wrong from one stage of a search on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from server.engine.fake import FakeEngine
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling


class FromStage(FakeEngine):
    """Once armed, awaits `fault` before it samples anything of `stage` and of those after it."""

    def __init__(self, stage: Stage, fault: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.armed = False
        self._stage = stage
        self._fault = fault

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        if self.armed and stage >= self._stage:
            self.num_running += n
            try:
                await self._fault()
            finally:
                self.num_running -= n
        stream = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk


class Gate:
    """Holds all who come until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()
