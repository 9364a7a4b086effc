"""An engine that has much to say."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.engine.fake import FakeEngine
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

ASKED_FOR = "At length."


class Verbose(FakeEngine):
    """Where it is asked for in the prompt, every candidate has so many characters, and two tokens."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        if ASKED_FOR in str(problem.prompt):
            for index in range(n):
                yield Chunk(index, f"{stage.opening}{'x' * self._length}{stage.closing}", (index, 1), "stop")
            return
        stream = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk


def at_length() -> list[dict[str, object]]:
    return [{"role": "user", "content": ASKED_FOR}]
