"""What the server counts, and the page that tells it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from prometheus_client import REGISTRY, generate_latest

from server import __version__
from server.errors import Failure
from server.metrics.families import Families
from server.metrics.scorer import WatchedScorer
from server.metrics.search import WatchedSearch
from server.serving_engine import ServingEngine
from swires.admission import Turn
from swires.events import Event
from swires.protocols import Scorer
from swires.scheduler import Scheduler

REJECTIONS = ("waiting_full", "arriving_full", "draining", "key_searches", "key_tokens")


class Metrics:
    """Of a server of `model`."""

    def __init__(self, scheduler: Scheduler, engine: ServingEngine, model: str) -> None:
        self._families = families = Families()
        for reason in REJECTIONS:  # there from the start, so that the first one is seen as one
            families.rejections.labels(reason)
        families.active_searches.set_function(lambda: scheduler.num_running)
        families.waiting_searches.set_function(lambda: scheduler.num_waiting)
        families.max_waiting.set(scheduler.max_waiting)
        families.active_candidates.set_function(lambda: scheduler.num_held)
        families.max_candidates.set(scheduler.capacity)
        families.engine_alive.set_function(lambda: engine.alive)
        families.draining.set_function(lambda: scheduler.draining)
        scheduler.foresight.on_undone = lambda policy, num_tokens: families.generated_tokens.labels(
            policy, "undone"
        ).inc(num_tokens)
        families.build.info({"version": __version__, "engine": engine.version, "model": model})

    def page(self) -> bytes:
        return generate_latest(REGISTRY) + generate_latest(self._families.registry)

    def refused(self, told: Failure) -> None:
        self._families.refusals.labels(str(told.status)).inc()
        if told.reason is not None:
            self._families.rejections.labels(told.reason).inc()

    def turned_away(self, *, policy: str, preset: str) -> None:
        """A search that was refused before it could be watched."""
        self._families.searches.labels(policy, preset, "refused").inc()

    async def watched(
        self, events: AsyncGenerator[Event, None], turn: Turn, *, policy: str, preset: str
    ) -> AsyncGenerator[Event, None]:
        """The `events` of a search in its `turn`, counted as they come and by how they end."""
        with WatchedSearch(self._families, turn, policy, preset) as search:
            async with aclosing(events):
                async for event in events:
                    search.take(event)
                    yield event

    def watched_scorers(self, scorers: Mapping[str, Scorer]) -> dict[str, Scorer]:
        return {name: WatchedScorer(self._families, name, scorer) for name, scorer in scorers.items()}
