"""A scheduler at random: clients come, render, wait, read and leave, while its engine and its scorers fail."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swires.adaptive import Adaptive
from swires.admission import Turn
from swires.budget import Budget
from swires.errors import DeadlineExceeded, EngineError, Overloaded, ScorerError
from swires.events import Event, SearchFinished, TextCommitted
from swires.plan import SearchPlan
from swires.policies import BestOfN, Greedy, SentenceBeam, StageBeam, Swires
from swires.protocols import Chunk, Scores, SearchPolicy
from swires.scheduler import Scheduler
from swires.stages import Stage
from swires.types import Problem, Sampling, Trajectory
from tests.swires.scripted import Line, Request, ScriptedEngine, ScriptedScorer, SkippingLoop, numbered

CAPACITY = 4
MAX_WAITING = 3
TIMEOUT_S = 8.0
AT_REST_S = 1e-6  # passes only when no task has anything left to do

EngineFault = Literal["fails", "dies", "ends", "hangs", "breaks"]
ScorerFault = Literal["fails", "nan", "missing", "ties", "slow", "engine fails", "breaks"]
DEGRADING: tuple[ScorerFault, ...] = ("fails", "nan", "missing", "slow")
POLICIES: tuple[SearchPolicy, ...] = (
    Greedy(),
    BestOfN(2),
    BestOfN(CAPACITY + 2),
    StageBeam(candidates=2, keep=1),
    SentenceBeam(candidates=2),
    Adaptive(max_retraces=2),
    Swires(captions=2, keep_captions=1, reasonings=2, keep_reasonings=1, accept_rank=1, max_retraces=1),
)


class Broken(Exception):
    """A bug, as it were."""


def paced(request: Request, index: int) -> Line:
    chance = Random(f"{request.prefix} {request.stage} {index}")
    return Line(numbered(request, index).text, chance.choice([0.0, 0.25, 0.5, 1.0]))


class FailingEngine:
    """Of each search, the fault that it was given strikes at one of its chunks and all after it."""

    def __init__(self) -> None:
        self.scripted = ScriptedEngine(paced)
        self.faults: dict[object, tuple[EngineFault, int]] = {}
        self.dead = False
        self.begun: list[object] = []
        self.open: Counter[object] = Counter()
        self._num_chunks: Counter[object] = Counter()

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        search = problem.prompt
        if search not in self.begun:
            self.begun.append(search)
        self.open[search] += 1
        chunks = self.scripted.generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if not await self._goes_on(search):
                        return
                    yield chunk
        finally:
            try:
                await asyncio.sleep(0)  # as long as it takes to abort
            finally:
                self.open[search] -= 1

    async def _goes_on(self, search: object) -> bool:
        fault, after = self.faults.get(search, (None, 0))
        self._num_chunks[search] += 1
        strikes = self._num_chunks[search] > after
        if fault == "dies" and strikes:
            self.dead = True
        if self.dead:
            raise EngineError("dead", dead=True)
        if fault == "fails" and strikes:
            raise EngineError("failed")
        if fault == "breaks" and strikes:
            raise Broken
        if fault == "hangs" and strikes:
            await asyncio.Event().wait()
        return not (fault == "ends" and strikes)


@dataclass
class FailingScorer(ScriptedScorer):
    fault: ScorerFault | None = None
    num_open: int = 0

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        self.num_open += 1
        try:
            return await self._score(problem, trajectories)
        finally:
            self.num_open -= 1

    async def _score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        scores = await super().score(problem, trajectories)
        match self.fault:
            case "fails":
                raise ScorerError("failed")
            case "engine fails":
                raise EngineError("failed")
            case "breaks":
                raise Broken
            case "nan":
                return Scores((math.nan, *scores.values[1:]))
            case "missing":
                return Scores(scores.values[1:])
            case "ties":
                return Scores((0.0,) * len(trajectories))
            case "slow":
                await asyncio.Event().wait()
        return scores


@dataclass(frozen=True)
class Visit:
    """What a client asks for; one that `joins` does so before it renders, as the routes do, which may tell that its
    request is `invalid`. It leaves when it has read so many events."""

    policy: SearchPolicy
    num_answers: int
    engine_fault: tuple[EngineFault, int] | None
    scorer_fault: ScorerFault | None
    renders_s: float
    invalid: bool
    reads: int | None


VISITS = st.builds(
    Visit,
    policy=st.sampled_from(POLICIES),
    num_answers=st.integers(1, 2),
    engine_fault=st.none() | st.tuples(st.sampled_from(get_args(EngineFault)), st.integers(0, 40)),
    scorer_fault=st.none() | st.sampled_from(get_args(ScorerFault)),
    renders_s=st.sampled_from([0.0, 0.0, 0.25, 1.0]),
    invalid=st.sampled_from([False] * 5 + [True]),
    reads=st.sampled_from([None] * 3) | st.integers(0, 40),
)
PAUSES_S = st.sampled_from([0.0, 0.25, 0.5, 1.0, TIMEOUT_S, 3 * TIMEOUT_S])


@dataclass(eq=False)
class Client:
    number: int
    visit: Visit
    joins: bool
    scheduler: Scheduler
    events: list[Event] = field(default_factory=list)
    turn: Turn | None = None
    began: float = math.inf
    task: asyncio.Task[str] = field(init=False)

    def __post_init__(self) -> None:
        problem = Problem(self.number, num_prompt_tokens=10)
        budget = Budget(timeout_s=TIMEOUT_S)
        self.plan = SearchPlan(problem, self.visit.policy, budget=budget, num_answers=self.visit.num_answers)
        self.scorer = FailingScorer(seconds=0.25, fault=self.visit.scorer_fault)
        self.task = asyncio.get_running_loop().create_task(self.outcome())

    @property
    def cost(self) -> int:
        return min(self.plan.width, CAPACITY)

    @property
    def holds(self) -> bool:
        return self.runs if self.turn is None else self.turn.holds

    @property
    def runs(self) -> bool:
        return bool(self.events)

    @property
    def dismissed(self) -> bool:
        """By a drain, which it has not noticed, since it still renders."""
        return self.turn is not None and self.turn.called.done() and not self.turn.holds

    async def outcome(self) -> str:
        try:
            return await self.searched()
        except Overloaded as error:
            return "refused" if 1 <= error.retry_after_s < math.inf else "refused for ever"
        except (EngineError, DeadlineExceeded, Broken) as error:
            return type(error).__name__

    async def searched(self) -> str:
        self.turn = self.joined() if self.joins else None
        with self.turn or nullcontext():
            if self.joins:
                await asyncio.sleep(self.visit.renders_s)
                if self.visit.invalid:
                    return "invalid"
            async with aclosing(self.scheduler.run(self.plan, self.scorer, self.turn)) as events:
                return await self.read(events)

    def joined(self) -> Turn:
        is_open = not self.scheduler.draining and self.scheduler.num_waiting < MAX_WAITING
        try:
            return self.scheduler.join(self.plan.width)
        except Overloaded:
            assert not is_open
            raise

    async def read(self, events: AsyncGenerator[Event, None]) -> str:
        if self.visit.reads == 0:
            return "left"
        async for event in events:
            self.began = min(self.began, asyncio.get_running_loop().time())
            self.events.append(event)
            if len(self.events) == self.visit.reads:
                return "left"
        return "finished"

    def check_end(self, now: float, *, without_engine: bool) -> None:
        """One end, and the one that it should have."""
        outcome = "left" if self.task.cancelled() else self.task.result()
        finished = [event for event in self.events if isinstance(event, SearchFinished)]
        fault, _ = self.visit.engine_fault or (None, 0)
        assert self.scorer.num_open == 0
        assert outcome == "left" or len(finished) == (outcome == "finished")
        assert outcome not in ("refused", "invalid") or not self.events
        assert outcome != "refused for ever"
        fails = fault in ("fails", "dies", "ends") or self.visit.scorer_fault == "engine fails" or without_engine
        assert outcome != "EngineError" or fails
        assert outcome != "Broken" or "breaks" in (fault, self.visit.scorer_fault)
        assert outcome != "DeadlineExceeded" or fault == "hangs"
        assert now <= self.began + TIMEOUT_S + 1e-3 or self.began == math.inf
        if outcome == "finished":
            self.check_answer(finished[0])

    def check_answer(self, finished: SearchFinished) -> None:
        result = finished.result
        assert self.events[-1] is finished
        assert "".join(event.text for event in self.events if isinstance(event, TextCommitted)) == result.answer.text
        assert len(result.answers) == self.visit.num_answers
        failed = bool(self.scorer.batches) and self.visit.scorer_fault in DEGRADING
        assert result.scorer_degraded == failed or result.stopped_by == "seconds"


class Searches(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = SkippingLoop()
        self.unhandled: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self.engine = FailingEngine()
        self.scheduler = Scheduler(self.engine, capacity=CAPACITY, max_waiting=MAX_WAITING, shrinks=True)
        self.clients: list[Client] = []  # in the order of joining, those that are not done
        self.num_clients = 0
        self.drain: asyncio.Task[None] | None = None
        self.given_up = False
        self.begun_at_end: list[object] = []

    def act(
        self,
        first: Callable[[], object],
        then: Callable[[], object] = lambda: None,
        *,
        after_s: float = 0.0,
        turns: int = 0,
    ) -> None:
        """The first once so much time has passed, the other some turns of the loop later; then all comes to rest."""

        async def main() -> None:
            await asyncio.sleep(after_s)
            first()
            for _ in range(turns):
                await asyncio.sleep(0)
            then()
            await asyncio.sleep(AT_REST_S)

        self.loop.run_until_complete(main())

    @rule(visits=st.lists(VISITS, min_size=1, max_size=3), joins=st.booleans(), after_s=PAUSES_S)
    def arrive(self, visits: list[Visit], joins: bool, after_s: float) -> None:
        self.act(lambda: [self.begin(visit, joins) for visit in visits], after_s=after_s)

    def begin(self, visit: Visit, joins: bool) -> Client:
        client = Client(self.num_clients, visit, joins, self.scheduler)
        if visit.engine_fault is not None:
            self.engine.faults[client.number] = visit.engine_fault
        client.task.add_done_callback(lambda _: self.end(client))
        self.clients.append(client)
        self.num_clients += 1
        return client

    def end(self, client: Client) -> None:
        self.clients.remove(client)
        client.check_end(self.loop.time(), without_engine=self.engine.dead or self.given_up)

    @rule(after_s=PAUSES_S)
    def time_passes(self, after_s: float) -> None:
        self.act(lambda: None, after_s=after_s)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), after_s=PAUSES_S, turns=st.integers(0, 8))
    def leave(self, data: st.DataObject, after_s: float, turns: int) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.act(lambda: None, client.task.cancel, after_s=after_s, turns=turns)

    @precondition(lambda self: len(self.clients) > 1)
    @rule(data=st.data(), turns=st.integers(0, 12))
    def leave_one_after_the_other(self, data: st.DataObject, turns: int) -> None:
        """The second one may be about to begin, for the first has made room."""
        first, second = data.draw(st.permutations(self.clients))[:2]
        self.act(first.task.cancel, second.task.cancel, turns=turns)

    @rule(visit=VISITS, joins=st.booleans(), after_s=PAUSES_S, turns=st.integers(0, 12))
    def arrive_and_leave(self, visit: Visit, joins: bool, after_s: float, turns: int) -> None:
        arrived: list[Client] = []
        self.act(
            lambda: arrived.append(self.begin(visit, joins)),
            lambda: arrived[0].task.cancel(),
            after_s=after_s,
            turns=turns,
        )

    @precondition(lambda self: self.engine.dead)
    @rule()
    def replace_the_engine(self) -> None:
        self.engine.dead = False
        self.engine.faults = {number: each for number, each in self.engine.faults.items() if each[0] != "dies"}

    @precondition(lambda self: self.drain is None and self.num_clients > 4)
    @rule(after_s=PAUSES_S, turns=st.integers(0, 8))
    def begin_to_drain(self, after_s: float, turns: int) -> None:
        self.act(lambda: None, self._drain, after_s=after_s, turns=turns)
        self.begun_at_end = self.engine.begun.copy()

    def _drain(self) -> None:
        self.drain = self.loop.create_task(self.scheduler.drain())

    @precondition(lambda self: not self.given_up and self.num_clients > 8)
    @rule(after_s=PAUSES_S, turns=st.integers(0, 8))
    def give_up(self, after_s: float, turns: int) -> None:
        self.act(lambda: None, self._give_up, after_s=after_s, turns=turns)
        self.begun_at_end = self.engine.begun.copy()

    def _give_up(self) -> None:
        self.given_up = True
        self.scheduler.give_up("gone")

    @invariant()
    def nothing_went_unheard(self) -> None:
        for context in self.unhandled:
            raise context.get("exception") or AssertionError(context)

    @invariant()
    def first_come_first_served_and_never_too_many(self) -> None:
        line = [client for client in self.clients if not client.dismissed]
        holding = [client for client in line if client.holds]
        waiting = [client for client in line if not client.holds]
        free = CAPACITY - sum(client.cost for client in holding)
        assert line == holding + waiting
        assert free >= 0
        assert not waiting or waiting[0].cost > free
        assert (self.scheduler.num_running, self.scheduler.num_waiting) == (len(holding), len(waiting))
        assert len(waiting) <= MAX_WAITING

    @invariant()
    def the_engine_works_for_none_but_those_whose_turn_it_is(self) -> None:
        holding = {client.number: client for client in self.clients if client.holds}
        at_work = set(+self.engine.open)
        assert at_work <= set(holding)
        assert self.engine.scripted.num_running <= sum(client.plan.width for client in holding.values())

    @precondition(lambda self: self.drain or self.given_up)
    @invariant()
    def nothing_begins_after_the_end(self) -> None:
        running = any(client.runs for client in self.clients)
        assert self.engine.begun == self.begun_at_end
        assert self.scheduler.num_waiting == 0
        assert not (running and self.given_up)
        assert self.drain is None or self.drain.done() == (not running)

    def teardown(self) -> None:
        """All end by themselves, in time."""
        self.act(lambda: None, after_s=(len(self.clients) + 1) * (TIMEOUT_S + 1))
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        assert (self.clients, left, self.unhandled) == ([], set(), [])
        assert (self.scheduler.num_running, self.scheduler.num_waiting) == (0, 0)
        assert not +self.engine.open
        assert self.engine.scripted.num_running == 0


TestSearches = Searches.TestCase
TestSearches.settings = settings(max_examples=80, stateful_step_count=20)
