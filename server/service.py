"""What the routes share."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from server import sample
from server.metrics import Metrics
from server.serving_engine import ServingEngine
from server.settings import Settings
from swires.protocols import Scorer
from swires.scheduler import Scheduler
from swires.stages import Stage
from swires.types import Sampling

WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Service:
    """A started engine with what serves it. `warm` is set once the engine has worked on a first question."""

    engine: ServingEngine
    scorers: Mapping[str, Scorer]
    settings: Settings
    scheduler: Scheduler
    metrics: Metrics
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def ready(self) -> bool:
        return self.engine.alive and self.warm.is_set() and not self.scheduler.draining

    async def warm_up(self) -> None:
        """Take a small question through renderer and engine: the first one sets up what no client should wait for."""
        parts = [{"type": "image"}, {"type": "text", "text": sample.QUESTION}]
        problem = await self.engine.render([{"role": "user", "content": parts}], [sample.image()])
        sampling = Sampling(max_tokens=WARM_UP_TOKENS)
        chunks = self.engine.generate(problem, (), stage=Stage.SUMMARY, n=1, sampling=sampling)
        async with aclosing(chunks):
            async for _ in chunks:
                pass
        self.warm.set()
