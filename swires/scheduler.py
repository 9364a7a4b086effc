"""Bounded admission, one task per search."""

import asyncio
import math
from collections.abc import AsyncGenerator

from swires.admission import Line
from swires.errors import Overloaded
from swires.events import Emit, Event
from swires.plan import SearchPlan
from swires.protocols import Engine, Scorer
from swires.search import search

NEWEST_SHARE = 0.2
"""The weight of the newest search in the running mean of how long they take."""


class Scheduler:
    """Runs searches on one engine, first come, first served, while their candidates fit its `capacity`.

    A search costs its width; one wider than the capacity takes all of it. At most `max_waiting` searches
    wait for their turn, one more is refused. With `shrinks`, a search that leaves others waiting is granted fewer
    generations: of those that its policy can do without, as great a share is left out as the line is full.
    """

    def __init__(self, engine: Engine, *, capacity: int, max_waiting: int, shrinks: bool = False) -> None:
        self._engine = engine
        self._capacity = capacity
        self._max_waiting = max_waiting
        self._shrinks = shrinks
        self._line = Line(capacity)
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._mean_s = 1.0

    @property
    def num_running(self) -> int:
        return len(self._tasks) - len(self._line)

    @property
    def num_waiting(self) -> int:
        return len(self._line)

    @property
    def draining(self) -> bool:
        return self._draining

    async def run(self, plan: SearchPlan, scorer: Scorer) -> AsyncGenerator[Event, None]:
        """The events of one search. Closing this cancels the search.

        Raises Overloaded before the first event, or what `search` raises.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.create_task(self._search(plan, scorer, events.put_nowait))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def check_room(self, width: int) -> None:
        """Raises Overloaded where a search of this width would be refused at this moment."""
        if self._draining:
            raise self._refusal("shutting down")
        if len(self._line) >= self._max_waiting and self._line.would_wait(self._cost(width)):
            raise self._refusal("too many searches")

    async def drain(self) -> None:
        """Refuse every search that has not begun, wait for those that have."""
        self._draining = True
        self._line.dismiss(self._refusal("shutting down"))
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _search(self, plan: SearchPlan, scorer: Scorer, emit: Emit) -> None:
        self.check_room(plan.width)
        async with self._line.share(self._cost(plan.width)):
            result = await search(plan, self._engine, scorer, emit, granted=self._granted(plan))
        self._mean_s += NEWEST_SHARE * (result.seconds - self._mean_s)

    def _granted(self, plan: SearchPlan) -> int | None:
        """The generations of a search that is admitted now, where the line leaves it fewer than it may need."""
        dispensable = plan.most_generations - plan.least_generations
        left_out = dispensable * len(self._line) // max(1, self._max_waiting) if self._shrinks else 0
        return plan.most_generations - left_out if left_out else None

    def _cost(self, width: int) -> int:
        return min(width, self._capacity)

    def _refusal(self, reason: str) -> Overloaded:
        """Worth another try when those who wait have been served."""
        return Overloaded(reason, retry_after_s=math.ceil(self._mean_s * (1 + self._line.cost / self._capacity)))
