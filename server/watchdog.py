"""What tells an engine that has stopped from one that is busy, where it does not tell that by itself.

vLLM notices a core that has died, and on several workers a step that takes over VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS, but
no core that stands still.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from swires.protocols import Chunk, Engine
from swires.stages import Stage
from swires.types import Problem, Sampling


class Watched:
    """An engine as it is, counted as `stalled` after `limit_s` seconds in which requests waited and none was told a
    word.

    The seconds are those of whoever calls `tick`: time in which this process was stopped too, or by which a clock
    jumped, is none that the engine has taken. Requests that give up waiting do not begin the count again.
    """

    def __init__(self, engine: Engine, limit_s: float) -> None:
        self._engine = engine
        self._limit_s = limit_s
        self._num_waiting = 0
        self._silent_s = 0.0

    @property
    def stalled(self) -> bool:
        return self._silent_s >= self._limit_s

    def tick(self, seconds: float) -> None:
        if self._num_waiting:
            self._silent_s += seconds

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`."""
        stream = self._engine.generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        self._num_waiting += 1
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    self._silent_s = 0.0
                    yield chunk
        finally:
            self._num_waiting -= 1
