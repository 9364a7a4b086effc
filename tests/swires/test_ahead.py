"""Stages begun early: what they save, what they cost, and that nobody can tell from the answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swires.adaptive import Adaptive
from swires.ahead import Foresight, Kind
from swires.errors import EngineError, ScorerError
from swires.events import Event, SearchFinished, StageLeading, StageStarted
from swires.plan import SearchPlan
from swires.policies import BestOfN, SentenceBeam, StageBeam, Swires
from swires.protocols import Chunk, SearchPolicy
from swires.result import SearchResult
from swires.scheduler import Scheduler
from swires.search import search
from swires.stages import Stage
from swires.types import Sampling, Trajectory
from tests.swires.scripted import (
    PROBLEM,
    Line,
    Request,
    ScriptedEngine,
    ScriptedScorer,
    Trusting,
    many,
    run,
    searched,
)
from tests.swires.test_search import random_judge, random_script, tagged

KIND: Kind = ("swires", 1, 3)


def a_second(request: Request, index: int) -> Line:
    """Each round's texts are its own, as its seeds are."""
    return Line(tagged(request.stage, f"{request.sampling.seed}.{index}"), 1.0)


SEEDED = Sampling(seed=1)


def rejected_but(number: int) -> Callable[[Trajectory], float]:
    """Reasonings of the round of that number alone are good; each round has four captions, then four reasonings."""
    first = 5 + 8 * number
    return lambda trajectory: 1.0 if first <= trajectory.last.id < first + 4 else 0.0


@pytest.mark.parametrize(
    ("policy", "accepted", "alone_s", "ahead_s"),
    [
        (Swires(max_retraces=4), 9, 12, 7),  # in pairs, and beside the last the conclusion of the best before it
        (Swires(max_retraces=4), 2, 8, 6),
        (Swires(max_retraces=4), 1, 6, 4),
        (Swires(max_retraces=4), 0, 4, 4),
        (Swires(max_retraces=0), 9, 4, 4),
        (StageBeam(), 9, 4, 4),
        (BestOfN(4), 9, 1, 1),
    ],
)
def test_rounds_run_side_by_side(policy: SearchPolicy, accepted: int, alone_s: float, ahead_s: float) -> None:
    for foresight, seconds in (None, alone_s), (Trusting(), ahead_s):
        engine, scorer = ScriptedEngine(a_second), ScriptedScorer(rejected_but(accepted))
        result, _ = searched(SearchPlan(PROBLEM, policy, SEEDED), engine, scorer, foresight)
        assert result.seconds == pytest.approx(seconds)
        assert engine.num_running == 0


def told(result: SearchResult) -> Any:
    """All but how long it took, and what was read again as its score was not known yet."""
    tokens = (result.tokens.winner, result.tokens.discarded, result.tokens.aborted, result.tokens.prompt)
    return result.answer, result.nodes, result.accepted, result.stopped_by, result.retraces, result.generations, tokens


POLICIES: list[SearchPolicy] = [
    Swires(),
    Swires(max_retraces=6, widen=1.7, accept_z=0.8),
    Swires(captions=1, keep_captions=1, reasonings=1, keep_reasonings=1, accept_rank=1, accept_z=1.0),
    Adaptive(),
    Adaptive(candidates=3, max_retraces=6, accept_z=1.0),
    SentenceBeam(),
    StageBeam(),
]


@many
@given(st.sampled_from(POLICIES), st.integers(0, 999), st.floats(0, 1), st.booleans(), st.integers(4, 99))
def test_the_tree_is_the_same(policy: SearchPolicy, seed: int, scorer_s: float, wrong: bool, room: int) -> None:
    plan = SearchPlan(PROBLEM, policy, Sampling(seed=seed))
    script, judge = random_script(seed, wrong=wrong), random_judge(seed)
    alone, _ = searched(plan, ScriptedEngine(script), ScriptedScorer(judge, scorer_s))
    engine = ScriptedEngine(script)
    result, events = searched(plan, engine, ScriptedScorer(judge, scorer_s), Trusting(room))
    assert told(result) == told(alone)
    assert events[-1] == SearchFinished(result)
    assert result.seconds <= alone.seconds + 1e-6
    assert engine.num_running == 0


def test_events_are_told_as_if_nothing_had_been_early() -> None:
    """Nothing of a round before the search has gone back to it; who leads meanwhile may differ."""

    def events_of(foresight: Foresight | None) -> list[set[Event]]:
        plan, scorer = SearchPlan(PROBLEM, Swires(max_retraces=3), SEEDED), ScriptedScorer(rejected_but(2))
        _, (*events, _) = searched(plan, ScriptedEngine(a_second), scorer, foresight)
        by_stage: list[set[Event]] = [set()]
        for event in events:
            if isinstance(event, StageStarted):
                by_stage.append(set())
            if not isinstance(event, StageLeading):
                by_stage[-1].add(event)
        return by_stage

    assert events_of(Trusting()) == events_of(None)


def test_what_is_undone_is_neither_in_the_tree_nor_charged() -> None:
    """The first round is good; the second, of texts as long, was beside it."""
    undone: list[tuple[str, int]] = []
    foresight = Trusting()
    foresight.on_undone = lambda policy, num_tokens: undone.append((policy, num_tokens))
    engine = ScriptedEngine()
    result, _ = searched(SearchPlan(PROBLEM, Swires()), engine, ScriptedScorer(rejected_but(0)), foresight)
    assert result.generations == len(result.nodes) == 12
    assert sum(request.n for request in engine.requests) == 20
    rounds = [node.candidate for node in result.nodes if node.candidate.stage in (Stage.CAPTION, Stage.REASONING)]
    assert undone == [("swires", sum(len(candidate.token_ids) for candidate in rounds))]


def test_it_learns_what_is_likely() -> None:
    """What comes true nine times in ten, before long; not what does once in three times; and it learns anew."""
    foresight, often, seldom = Foresight(99, lambda: 0), KIND, ("swires", 3, 5)
    assert not foresight.expects(often)
    for number in range(99):
        foresight.learn(often, came_true=number % 10 != 9)
        foresight.learn(seldom, came_true=number % 3 == 0)
        assert foresight.expects(often) or number == 0
        assert not foresight.expects(seldom)
    for _ in range(20):
        foresight.learn(often, came_true=False)
    assert not foresight.expects(often)


def test_searches_learn_from_each_other() -> None:
    """Three that are sent back in vain, and the next has its rounds side by side; one accepted at once begins none."""
    foresight = Foresight(99, lambda: 0)
    seconds = [
        searched(SearchPlan(PROBLEM, Swires(max_retraces=1)), ScriptedEngine(a_second), ScriptedScorer(), foresight)[
            0
        ].seconds
        for _ in range(3)
    ]
    assert seconds == pytest.approx([6, 6, 4])


@pytest.mark.parametrize(("most", "held", "looks_ahead"), [(16, 4, True), (8, 4, True), (7, 4, False), (0, 0, False)])
def test_there_has_to_be_room(most: int, held: int, looks_ahead: bool) -> None:
    engine = ScriptedEngine(a_second)
    searched(SearchPlan(PROBLEM, Swires()), engine, ScriptedScorer(rejected_but(0)), Trusting(most, lambda: held))
    assert sum(request.n for request in engine.requests) == (20 if looks_ahead else 12)


def test_a_scheduler_counts_what_is_early_with_what_runs() -> None:
    """There is room for one search to look ahead beside two that run, not for both."""

    async def main() -> int:
        engine = ScriptedEngine(a_second)
        scheduler = Scheduler(engine, capacity=99, max_waiting=9, look_ahead=12)
        for _ in range(2):
            scheduler.foresight.learn(KIND, came_true=True)

        async def visit() -> None:
            plan = SearchPlan(PROBLEM, Swires(max_retraces=1))
            async with aclosing(scheduler.run(plan, ScriptedScorer())) as events:
                assert [event async for event in events]

        await asyncio.gather(visit(), visit())
        return engine.most_running

    assert run(main()) == 12


class Failing(ScriptedEngine):
    """Its second request for captions fails, the first that is begun early."""

    num_asked = 0

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Chunk, None]:
        if kwargs["stage"] is Stage.CAPTION:
            self.num_asked += 1
            if self.num_asked == 2:
                await asyncio.sleep(0.5)
                raise EngineError("no")
        async with aclosing(super().generate(*args, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk


def test_what_fails_early_is_sampled_anew() -> None:
    plan = SearchPlan(PROBLEM, Swires(max_retraces=1))
    alone, _ = searched(plan, ScriptedEngine(a_second), ScriptedScorer())
    engine = Failing(a_second)
    result, _ = searched(plan, engine, ScriptedScorer(), Trusting())
    assert told(result) == told(alone)
    assert engine.num_asked == 3


def test_a_scorer_that_fails_early_degrades_the_search_that_goes_there() -> None:
    class Once(ScriptedScorer):
        async def score(self, *args: Any) -> Any:
            if len(self.batches) == 1:
                self.batches.append(())
                raise ScorerError("no")
            return await super().score(*args)

    for foresight in None, Trusting():
        plan = SearchPlan(PROBLEM, Swires(max_retraces=1))
        result, _ = searched(plan, ScriptedEngine(a_second), Once(), foresight)
        assert result.scorer_degraded


@given(st.integers(0, 60))
def test_a_search_that_is_given_up_leaves_nothing(tenths: int) -> None:
    async def main() -> None:
        engine = ScriptedEngine(a_second)
        plan = SearchPlan(PROBLEM, Swires(max_retraces=2))
        task = asyncio.create_task(search(plan, engine, ScriptedScorer(), lambda event: None, foresight=Trusting()))
        await asyncio.sleep(tenths / 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.num_running == 0
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_limit_that_ends_the_search_ends_what_is_early() -> None:
    engine = ScriptedEngine(lambda request, index: Line(tagged(request.stage, "x"), 1.0))
    plan = SearchPlan(PROBLEM, Swires(max_retraces=4))
    plan = replace(plan, budget=replace(plan.budget, timeout_s=6.0))
    result, _ = searched(plan, engine, ScriptedScorer(), Trusting())
    assert result.stopped_by == "seconds"
    assert engine.num_running == 0
