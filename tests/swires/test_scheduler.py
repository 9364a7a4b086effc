import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swires.errors import EngineError, Overloaded
from swires.events import Event, SearchFinished, StageStarted
from swires.plan import SearchPlan
from swires.policies import BestOfN, Swires
from swires.protocols import Chunk
from swires.scheduler import Scheduler
from swires.types import Problem
from tests.swires.scripted import Line, ScriptedEngine, ScriptedScorer, few, run

CAPACITY = 4


class Clients:
    """A scheduler over an engine that takes a second for each search, and what comes of those who use it."""

    def __init__(self, *, max_waiting: int = 9, script: Callable[..., Line] = lambda *_: Line("4", 1.0)) -> None:
        self.engine = ScriptedEngine(script)
        self.scheduler = Scheduler(self.engine, capacity=CAPACITY, max_waiting=max_waiting)
        self.arrived: list[int] = []
        self.refused: list[int] = []

    def run(self, candidates: int, number: int = 0) -> AsyncGenerator[Event, None]:
        plan = SearchPlan(Problem(number, num_prompt_tokens=10), BestOfN(candidates))
        return self.scheduler.run(plan, ScriptedScorer())

    async def visit(self, candidates: int, number: int = 0) -> list[Event]:
        self.arrived.append(number)
        try:
            async with aclosing(self.run(candidates, number)) as events:
                return [event async for event in events]
        except Overloaded:
            self.refused.append(number)
            return []

    def begin(self, *candidates: int) -> list[asyncio.Task[list[Event]]]:
        return [asyncio.create_task(self.visit(each, number)) for number, each in enumerate(candidates)]

    @property
    def started(self) -> list[object]:
        return [request.prompt for request in self.engine.requests]

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.scheduler.num_running, self.scheduler.num_waiting, self.engine.num_running


async def rest() -> None:
    """Until every task has done what it can at this moment."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_further_answers_take_room_too() -> None:
    async def main() -> list[bool]:
        clients = Clients(max_waiting=0)
        plan = SearchPlan(Problem(0, num_prompt_tokens=10), BestOfN(1), num_answers=CAPACITY)
        async with aclosing(clients.scheduler.run(plan, ScriptedScorer())) as events:
            await anext(events)
            found = []
            for width in (1, 2):
                try:
                    with clients.scheduler.join(width):
                        found.append(True)
                except Overloaded:
                    found.append(False)
            return found

    assert run(main()) == [True, False]


def test_the_events_of_a_search() -> None:
    async def main() -> None:
        clients = Clients()
        events = await clients.visit(2)
        assert isinstance(events[0], StageStarted)
        assert isinstance(events[-1], SearchFinished)
        assert clients.counts == (0, 0, 0)

    run(main())


def test_events_come_while_the_search_runs_and_closing_ends_it() -> None:
    async def main() -> None:
        clients = Clients(script=lambda *_: Line("4", 1e9))
        async with aclosing(clients.run(2)) as events:
            assert isinstance(await anext(events), StageStarted)
            await rest()
            assert clients.counts == (1, 0, 2)
        assert clients.counts == (0, 0, 0)
        assert asyncio.get_running_loop().time() == 0.0

    run(main())


def test_a_search_that_is_never_begun_takes_nothing() -> None:
    async def main() -> None:
        clients = Clients()
        await clients.run(2).aclose()
        assert clients.counts == (0, 0, 0)

    run(main())


def test_without_an_engine_all_that_run_wait_and_come_end_with_that() -> None:
    """One that has its turn in the line and has yet to be rendered, too."""

    async def main() -> None:
        clients = Clients(script=lambda *_: Line("4", 1e9))
        tasks = clients.begin(CAPACITY, 1)
        await rest()
        turn = clients.scheduler.join(1)
        assert clients.counts == (1, 2, CAPACITY)
        clients.scheduler.give_up("it is gone")
        await clients.scheduler.drain()
        plan = SearchPlan(Problem(0, num_prompt_tokens=10), BestOfN(1))
        with pytest.raises(EngineError, match="it is gone"), turn:
            await anext(clients.scheduler.run(plan, ScriptedScorer(), turn))
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, EngineError)
            assert (str(ended), ended.dead) == ("it is gone", True)
        with pytest.raises(EngineError, match="it is gone"):
            await clients.visit(1)
        with pytest.raises(EngineError, match="it is gone"):
            clients.scheduler.join(1)
        assert clients.counts == (0, 0, 0)
        assert asyncio.get_running_loop().time() == 0.0

    run(main())


def test_errors_of_a_search_reach_the_reader() -> None:
    def fail(*_: object) -> Line:
        raise EngineError("failed")

    async def main() -> None:
        clients = Clients(script=fail)
        with pytest.raises(EngineError):
            await clients.visit(2)
        assert clients.counts == (0, 0, 0)

    run(main())


def test_those_who_find_no_room_wait_and_those_who_find_no_place_are_refused() -> None:
    async def main() -> None:
        clients = Clients(max_waiting=1)
        tasks = clients.begin(3, 2, 1, 1)
        await rest()
        assert clients.counts == (1, 1, 3)
        assert clients.refused == [2, 3]
        await asyncio.gather(*tasks)
        assert clients.started == [0, 1]

    run(main())


def test_nobody_overtakes() -> None:
    """The third would fit beside the first, but the second was there before."""

    async def main() -> None:
        clients = Clients()
        tasks = clients.begin(3, 2, 1)
        await rest()
        assert clients.started == [0]
        await asyncio.gather(*tasks)
        assert clients.started == [0, 1, 2]

    run(main())


def test_who_has_joined_the_line_before_rendering_is_served_in_the_order_of_joining() -> None:
    async def main() -> None:
        clients = Clients(max_waiting=1)
        with clients.scheduler.join(3) as turn:
            tasks = clients.begin(2, 1)
            await asyncio.sleep(5)
            assert (clients.started, clients.refused, clients.counts) == ([], [1], (1, 1, 0))
            plan = SearchPlan(Problem(9, num_prompt_tokens=10), BestOfN(3))
            async with aclosing(clients.scheduler.run(plan, ScriptedScorer(), turn)) as events:
                assert isinstance([event async for event in events][-1], SearchFinished)
            assert clients.counts[:2] == (1, 0)
        await asyncio.gather(*tasks)
        assert clients.started == [9, 0]

    run(main())


@pytest.mark.parametrize("ahead", [0, CAPACITY])
def test_a_turn_that_has_not_begun_is_refused_by_draining(ahead: int) -> None:
    async def main() -> None:
        clients = Clients()
        tasks = clients.begin(ahead) if ahead else []
        await rest()
        with clients.scheduler.join(2) as turn:
            await clients.scheduler.drain()
            plan = SearchPlan(Problem(9, num_prompt_tokens=10), BestOfN(2))
            with pytest.raises(Overloaded, match="shutting down"):
                await anext(clients.scheduler.run(plan, ScriptedScorer(), turn))
        await asyncio.gather(*tasks)
        assert clients.counts == (0, 0, 0)
        assert 9 not in clients.started

    run(main())


def test_a_search_wider_than_the_capacity_runs_alone() -> None:
    async def main() -> None:
        clients = Clients()
        tasks = clients.begin(1, CAPACITY + 2, 1)
        await asyncio.sleep(1.5)
        assert clients.counts == (1, 1, CAPACITY + 2)
        await asyncio.gather(*tasks)

    run(main())


def test_a_refusal_says_when_to_come_again() -> None:
    """Searches take 100 s, 20 s in the running mean after the first, and one and a half capacities are ahead."""

    async def main() -> None:
        clients = Clients(max_waiting=1, script=lambda *_: Line("4", 100.0))
        await clients.visit(1)
        tasks = clients.begin(4, 2)
        await rest()
        with pytest.raises(Overloaded) as refused:
            await anext(clients.run(1))
        assert refused.value.retry_after_s == 32  # ceil((0.8 * 1 + 0.2 * 100) * 1.5)
        await asyncio.gather(*tasks)

    run(main())


def test_draining_lets_the_running_searches_finish() -> None:
    async def main() -> None:
        clients = Clients()
        tasks = clients.begin(3, 2)
        await rest()
        draining = asyncio.create_task(clients.scheduler.drain())
        await rest()
        assert clients.scheduler.draining
        assert clients.refused == [1]
        assert await clients.visit(1, number=2) == []
        assert not draining.done()
        await draining
        assert asyncio.get_running_loop().time() == 1.0
        assert clients.counts == (0, 0, 0)
        assert isinstance((await tasks[0])[-1], SearchFinished)
        await clients.scheduler.drain()

    run(main())


TIMES = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
VISITS = st.lists(st.tuples(TIMES, st.integers(1, CAPACITY), st.none() | TIMES), min_size=1, max_size=12)


@few
@given(VISITS, st.integers(0, 9), st.none() | TIMES)
def test_whenever_clients_come_and_leave(
    visits: list[tuple[float, int, float | None]], max_waiting: int, drained_at: float | None
) -> None:
    """Each comes, asks for some candidates, and leaves after a while if it has no answer by then."""

    async def main() -> None:
        clients = Clients(max_waiting=max_waiting)

        async def client(number: int, arrives: float, candidates: int, stays: float | None) -> None:
            await asyncio.sleep(arrives)
            task = asyncio.create_task(clients.visit(candidates, number))
            await asyncio.wait((task,), timeout=stays)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async with asyncio.TaskGroup() as tasks:
            for number, visit in enumerate(visits):
                tasks.create_task(client(number, *visit))
            if drained_at is not None:
                await asyncio.sleep(drained_at)
                await clients.scheduler.drain()
                assert clients.counts == (0, 0, 0)
        assert clients.counts == (0, 0, 0)
        assert clients.engine.most_running <= CAPACITY
        assert clients.started == [number for number in clients.arrived if number in clients.started]
        if drained_at is None:
            last = len(visits)
            await clients.visit(CAPACITY, last)
            assert clients.started[-1] == last

    run(main())


def stopped_by(events: list[Event]) -> tuple[str | None, int]:
    result = next(event.result for event in events if isinstance(event, SearchFinished))
    return result.stopped_by, result.generations


@pytest.mark.parametrize("shrinks", [False, True])
def test_the_fuller_the_line_the_fewer_generations_where_budgets_shrink(shrinks: bool) -> None:
    """The first begins alone; each of the others leaves those behind it waiting, of four at most."""

    async def main() -> list[tuple[str | None, int]]:
        scheduler = Scheduler(
            ScriptedEngine(lambda *_: Line("4", 1.0)), capacity=CAPACITY, max_waiting=4, shrinks=shrinks
        )
        plan = SearchPlan(Problem(0, num_prompt_tokens=10), Swires(max_retraces=4))

        async def visit() -> list[Event]:
            async with aclosing(scheduler.run(plan, ScriptedScorer())) as events:
                return [event async for event in events]

        tasks = [asyncio.create_task(visit()) for _ in range(5)]
        return [stopped_by(await task) for task in tasks]

    begun_alone = (None, 44)
    shrunk = [("load", 20), ("load", 28), ("load", 36), begun_alone] if shrinks else [begun_alone] * 4
    assert run(main()) == [begun_alone, *shrunk]


def test_a_policy_that_needs_all_its_generations_keeps_them() -> None:
    async def main() -> list[tuple[str | None, int]]:
        clients = Clients(max_waiting=2)
        clients.scheduler = Scheduler(clients.engine, capacity=CAPACITY, max_waiting=2, shrinks=True)
        return [stopped_by(await task) for task in clients.begin(4, 4, 4)]

    assert run(main()) == [(None, 4)] * 3


def test_who_watches_is_told_at_once_in_the_searches_own_task() -> None:
    """So that what it sets there is seen by what the search does next."""
    mine: ContextVar[int] = ContextVar("mine", default=0)

    class Looking(ScriptedEngine):
        def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Chunk, None]:
            seen.append(mine.get())
            return super().generate(*args, **kwargs)

    async def search(number: int) -> None:
        watched: list[Event] = []

        def watch(event: Event) -> None:
            watched.append(event)
            if isinstance(event, StageStarted):
                mine.set(number)

        plan = SearchPlan(Problem(number, num_prompt_tokens=10), BestOfN(1))
        async with aclosing(scheduler.run(plan, ScriptedScorer(), watch=watch)) as events:
            assert [event async for event in events] == watched
        assert mine.get() == 0

    async def main() -> None:
        await asyncio.gather(*map(search, range(1, 4)))

    seen: list[int] = []
    scheduler = Scheduler(Looking(lambda *_: Line("4", 1.0)), capacity=CAPACITY, max_waiting=9)
    run(main())
    assert sorted(seen) == [1, 2, 3]
