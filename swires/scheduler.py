"""Bounded admission, one task per search."""

import asyncio
import math
from collections.abc import AsyncGenerator

from swires.admission import Line, Turn
from swires.ahead import Foresight
from swires.errors import EngineError, Overloaded
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
    generations: of those that its policy can do without, as great a share is left out as the line is full. Searches
    begin likely stages early while all candidates come to `look_ahead` at most.
    """

    def __init__(
        self, engine: Engine, *, capacity: int, max_waiting: int, shrinks: bool = False, look_ahead: int = 0
    ) -> None:
        self._engine = engine
        self._capacity = capacity
        self._max_waiting = max_waiting
        self._shrinks = shrinks
        self._line = Line(capacity)
        self._foresight = Foresight(look_ahead, lambda: self.num_held)
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._given_up: str | None = None
        self._mean_s = 1.0

    @property
    def num_running(self) -> int:
        return self._line.num_holding

    @property
    def num_waiting(self) -> int:
        return len(self._line)

    @property
    def max_waiting(self) -> int:
        return self._max_waiting

    @property
    def num_held(self) -> int:
        """What the searches that run cost of the capacity."""
        return self._capacity - self._line.free

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def foresight(self) -> Foresight:
        return self._foresight

    @property
    def draining(self) -> bool:
        return self._draining

    def join(self, width: int) -> Turn:
        """The turn of a search of this width, for whoever has yet to render its plan: to be left whatever happens.

        Raises Overloaded, EngineError.
        """
        self._check_open()
        cost = self._cost(width)
        if len(self._line) >= self._max_waiting and self._line.would_wait(cost):
            raise self._refusal("too many searches", "waiting_full")
        return self._line.join(cost)

    async def run(
        self, plan: SearchPlan, scorer: Scorer, turn: Turn | None = None, watch: Emit | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of one search, in its `turn` if it has joined the line. Closing this cancels the search.
        `watch` is told each of them as it happens, in the task of the search.

        Raises Overloaded before the first event, or what `search` raises.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def emit(event: Event) -> None:
            if watch is not None:
                watch(event)
            events.put_nowait(event)

        task = asyncio.create_task(self._search(plan, scorer, emit, turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            if self._given_up and task.cancelled():
                raise EngineError(self._given_up, dead=True)
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def drain(self) -> None:
        """Refuse every search that has not begun, wait for those that have."""
        self._draining = True
        self._line.dismiss(self._refusal("shutting down", "draining"))
        while self._tasks:
            await asyncio.wait(self._tasks)

    def give_up(self, reason: str) -> None:
        """There is no engine any more: all searches end with EngineError, those to come too."""
        self._given_up = reason
        self._line.dismiss(EngineError(reason, dead=True))
        for task in self._tasks:
            task.cancel()

    async def _search(self, plan: SearchPlan, scorer: Scorer, emit: Emit, joined: Turn | None) -> None:
        with joined or self.join(plan.width) as turn:
            await turn.come()
            self._check_open()
            granted = self._granted(plan)
            result = await search(plan, self._engine, scorer, emit, granted=granted, foresight=self._foresight)
        self._mean_s += NEWEST_SHARE * (result.seconds - self._mean_s)

    def _check_open(self) -> None:
        if self._given_up:
            raise EngineError(self._given_up, dead=True)
        if self._draining:
            raise self._refusal("shutting down", "draining")

    def _granted(self, plan: SearchPlan) -> int | None:
        """The generations of a search that is admitted now, where the line leaves it fewer than it may need."""
        dispensable = plan.most_generations - plan.least_generations
        left_out = dispensable * len(self._line) // max(1, self._max_waiting) if self._shrinks else 0
        return plan.most_generations - left_out if left_out else None

    def _cost(self, width: int) -> int:
        return min(width, self._capacity)

    def _refusal(self, message: str, reason: str) -> Overloaded:
        """Worth another try when those who wait have been served."""
        wait_s = self._mean_s * (1 + self._line.cost / self._capacity)
        return Overloaded(message, reason=reason, retry_after_s=math.ceil(wait_s))
