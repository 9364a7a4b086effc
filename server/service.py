"""What the routes share."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.callers import Callers
from server.fetch import Fetcher
from server.metrics import Metrics
from server.serving_engine import ServingEngine
from server.settings import Settings
from server.watchdog import Watched
from swires.protocols import Scorer
from swires.scheduler import Scheduler
from swires.stages import Stage


@dataclass(frozen=True, slots=True)
class Service:
    """A started engine and what serves it."""

    engine: ServingEngine
    watched: Watched  # the same, as searches ask it
    scorers: Mapping[str, Scorer]
    settings: Settings
    scheduler: Scheduler
    metrics: Metrics
    lengths: Mapping[Stage, float]  # the usual tokens of each stage, where they have been measured
    callers: Callers
    fetcher: Fetcher
    gate: asyncio.Semaphore  # held while a request is read and rendered, each of which may take much memory
    rendering: asyncio.Semaphore  # held while its images are decoded, which take the most
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def fault(self) -> str | None:
        """Why no request will be served any more."""
        if not self.engine.alive:
            return "the engine died"
        if self.watched.stalled:
            return f"the engine said nothing for {self.settings.engine_stall_s:g} s (--engine-stall-s)"
        return None

    @property
    def ready(self) -> bool:
        """Whether a request would be served; until the engine is warm, the server does not listen."""
        return self.fault is None and not self.scheduler.draining
