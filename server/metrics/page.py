"""Metrics of the searches: `swires_*`, on one page with what the engine registers itself (vLLM's `vllm:*`)."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from swires.errors import Overloaded
from swires.events import Event, SearchFinished
from swires.result import SearchResult
from swires.scheduler import Scheduler

SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 240, 480)


class Metrics:
    """In a registry of their own, so that two servers in one process stay apart."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = registry = CollectorRegistry()
        kind = ("policy", "preset")
        self._searches = Counter("swires_searches", "Searches that ended", (*kind, "outcome"), registry=registry)
        self._seconds = Histogram(
            "swires_search_seconds", "Seconds of searches, waiting included", kind, buckets=SECONDS, registry=registry
        )
        self._generations = Counter("swires_generations", "Candidates sampled", ("policy",), registry=registry)
        self._retraces = Counter("swires_retraces", "Retraces", ("policy",), registry=registry)
        self._tokens = Counter("swires_tokens", "Tokens by where they went", ("kind",), registry=registry)
        self._degraded = Counter("swires_scorer_degraded", "Searches whose scorer failed in part", registry=registry)
        self._refusals = Counter("swires_refusals", "Requests answered with an error", ("status",), registry=registry)
        active = Gauge("swires_active_searches", "Searches that run", registry=registry)
        active.set_function(lambda: scheduler.num_running)
        waiting = Gauge("swires_waiting_searches", "Searches that wait for their turn", registry=registry)
        waiting.set_function(lambda: scheduler.num_waiting)

    def page(self) -> bytes:
        return generate_latest(REGISTRY) + generate_latest(self._registry)

    def refused(self, status: int) -> None:
        self._refusals.labels(str(status)).inc()

    def turned_away(self, *, policy: str, preset: str) -> None:
        """A search that was refused before it could be watched."""
        self._searches.labels(policy, preset, "refused").inc()

    async def watched(
        self, events: AsyncGenerator[Event, None], *, policy: str, preset: str
    ) -> AsyncGenerator[Event, None]:
        """`events`, counted by how they end."""
        start = time.monotonic()
        outcome = "cancelled"
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, SearchFinished):
                        outcome = event.result.stopped_by or "finished"
                        self._count(event.result, policy)
                    yield event
        except Overloaded:
            outcome = "refused"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._searches.labels(policy, preset, outcome).inc()
            if outcome != "refused":  # which would look like a fast answer
                self._seconds.labels(policy, preset).observe(time.monotonic() - start)

    def _count(self, result: SearchResult, policy: str) -> None:
        self._generations.labels(policy).inc(result.generations)
        self._retraces.labels(policy).inc(result.retraces)
        self._degraded.inc(result.scorer_degraded)
        for kind, number in asdict(result.tokens).items():
            self._tokens.labels(kind).inc(number)
