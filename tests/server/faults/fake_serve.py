"""`swires` with a fake engine in the place of vLLM. A question that is one of `FAULTS` has the engine do that."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from PIL.Image import Image

from server import commands
from server.cli import main
from server.engine.fake import FakeEngine
from server.scorer.offered import NONE_BESIDE, Beside
from swires.errors import EngineError
from swires.types import Problem

FAULTS = ("die", "stall", "stick")
"""What sticks stands still, and cannot be stopped either."""

TOKENS = 30
"""So many are told before."""


class Faulty(FakeEngine):
    def __init__(self) -> None:
        super().__init__(step=self._next)
        self._fault = ""
        self._left = 0

    async def __aexit__(self, *_: object) -> None:
        if self._fault == "stick":
            await asyncio.Event().wait()

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        self._fault = next((fault for fault in FAULTS if fault in repr(messages)), "")
        self._left = TOKENS
        return await super().render(messages, images)

    async def _next(self) -> None:
        await asyncio.sleep(0)
        self._left -= 1
        if self._fault and self._left < 0:
            await self._fail()

    async def _fail(self) -> None:
        if self._fault != "die":
            await asyncio.Event().wait()
        self.alive = False
        raise EngineError("the engine has died", dead=True)


@asynccontextmanager
async def engines(*_: object) -> AsyncGenerator[tuple[FakeEngine, Beside], None]:
    async with Faulty() as engine:
        yield engine, NONE_BESIDE


if __name__ == "__main__":
    commands.EXIT_S = 2
    commands._engines = engines  # type: ignore[assignment]
    sys.exit(main())
