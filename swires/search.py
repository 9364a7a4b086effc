"""The search: a policy decides, an engine samples, a scorer scores, a limit ends it."""

import asyncio
from contextlib import closing
from dataclasses import replace
from random import Random

from swires.ahead import Foresight, LookAhead, Step
from swires.budget import Limit, Spend
from swires.errors import DeadlineExceeded
from swires.events import Emit, SearchFinished
from swires.expansion import Expansion
from swires.limits import Allowance, allowance, limit_after, limit_before
from swires.plan import SearchPlan
from swires.protocols import Engine, Scorer
from swires.record import Record
from swires.result import SearchResult
from swires.stages import Stage
from swires.types import Expand, Flow, Outcome, Sampling, Trajectory

NO_FORESIGHT = Foresight(0, lambda: 0)


async def search(
    plan: SearchPlan,
    engine: Engine,
    scorer: Scorer,
    emit: Emit,
    *,
    granted: int | None = None,
    foresight: Foresight | None = None,
) -> SearchResult:
    """Search for the answer to `plan`, telling `emit` what happens.

    When a limit is reached, the best so far is concluded with one more generation, for which a share of time and
    tokens is kept. Generations and tokens never pass their limits; a candidate that the scorer reads is charged its
    length once more, whatever the scorer had to compute for that. Further answers have generations of their own kept
    for them; one for which tokens or time are short is cut. At most `granted` generations are begun, where those are
    fewer than the budget's: then `load` is what ends the search. With `foresight` likely stages are begun early; what
    is undone of them is neither in the tree nor charged. Raises EngineError, and DeadlineExceeded when time ran out
    before there was any text.
    """
    run = Search(plan, engine, scorer, emit, granted, foresight)
    try:
        with closing(plan.policy.flow(run.spend)) as flow:
            outcome = await run.follow(flow)
    finally:
        await run.ahead.close()
    run.record.commit(outcome.answer)
    result = run.finish(outcome, await run.others(outcome.answer))
    emit(SearchFinished(result))
    return result


class Search:
    """One search under way."""

    def __init__(
        self,
        plan: SearchPlan,
        engine: Engine,
        scorer: Scorer,
        emit: Emit,
        granted: int | None,
        foresight: Foresight | None,
    ) -> None:
        self.plan = plan
        self.engine = engine
        self.scorer = scorer
        self.emit = emit
        self.spend = Spend(plan.budget, asyncio.get_running_loop().time, reserved=plan.num_others, granted=granted)
        self.record = Record(emit)
        self.past: list[tuple[Trajectory, ...]] = []
        self.ahead = LookAhead(foresight or NO_FORESIGHT, plan.policy, self.spend, self.likely_step, self.expansion)
        self.known_scores: dict[tuple[int, ...], float] = {}
        self.scorer_degraded = False

    async def follow(self, flow: Flow) -> Outcome:
        """Do as the policy says, until it has its answer or a limit is reached."""
        try:
            expand = next(flow)
            while True:
                allowed = allowance(expand, self.plan.max_tokens, self.spend)
                if limit := limit_before(expand, allowed, self.spend):
                    return await self.conclude(limit)
                grown = await self.expand(expand, allowed, look_ahead=True)
                if limit := limit_after(grown, allowed):
                    return await self.conclude(limit)
                expand = flow.send(grown)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    async def conclude(self, limit: Limit) -> Outcome:
        """The best so far, with a conclusion if there is room for one."""
        answer = self.record.furthest()
        expand = Expand(Stage.CONCLUSION, (answer,), 1, scored=False)
        allowed = allowance(expand, self.plan.max_tokens, self.spend)
        whole = Stage.CONCLUSION.closing in answer.text
        if not whole and limit_before(expand, allowed, self.spend) is None:
            (answer,) = await self.expand(expand, allowed)
        return Outcome(answer, stopped_by=limit)

    async def others(self, answer: Trajectory) -> tuple[Trajectory, ...]:
        """Further conclusions of what `answer` concludes, now that it is certain."""
        if not self.plan.num_others:
            return ()
        concluded = bool(answer.candidates) and answer.last.stage is Stage.CONCLUSION
        parent = answer.parent if concluded else answer
        expand = Expand(Stage.CONCLUSION, (parent,), self.plan.num_others, final=False, scored=False)
        self.spend.reserved = 0
        return await self.expand(expand, allowance(expand, self.plan.max_tokens, self.spend))

    async def expand(self, expand: Expand, allowed: Allowance, *, look_ahead: bool = False) -> tuple[Trajectory, ...]:
        """Sample and score what `expand` asks for, as far as is allowed."""
        self.record.begin(expand)
        step = self.step(expand, allowed, len(self.past), self.record.next_id)
        expansion = self.ahead.take(step, self.emit) or self.expansion(step, self.emit)
        running = expansion.start()
        if look_ahead:
            self.ahead.look(step, self.past)
        grown = await running
        self.spend.add(expansion.spend)
        self.record.add(expand, grown)
        self.past.append(grown)
        self.scorer_degraded |= expansion.degraded
        return grown

    def likely_step(self, expand: Expand, spend: Spend, number: int, first_id: int) -> Step | None:
        """None where a limit forbids it."""
        allowed = allowance(expand, self.plan.max_tokens, spend)
        return None if limit_before(expand, allowed, spend) else self.step(expand, allowed, number, first_id)

    def step(self, expand: Expand, allowed: Allowance, number: int, first_id: int) -> Step:
        return Step(number, expand, tuple(self.samplings(expand, allowed, number)), allowed.deadline, first_id)

    def expansion(self, step: Step, emit: Emit) -> Expansion:
        return Expansion(
            step.expand,
            step.samplings,
            problem=self.plan.problem,
            engine=self.engine,
            scorer=self.scorer,
            spend=self.spend.part(),
            emit=emit,
            first_id=step.first_id,
            deadline=step.deadline,
            known=self.known_scores,
        )

    def samplings(self, expand: Expand, allowed: Allowance, number: int) -> list[Sampling | None]:
        """How each parent is sampled; one whose answer has no room left is not."""
        sampling = replace(
            self.plan.sampling_of(expand.stage),
            stop=expand.stop,
            likelihood=expand.scored and self.scorer.needs_likelihood,
        )
        if expand.widen > 1:
            sampling = replace(sampling, temperature=sampling.temperature * expand.widen, top_p=1.0)
        if expand.greedy:
            sampling = replace(sampling, temperature=0.0, seed=None)
        return [
            replace(sampling, max_tokens=max_tokens, seed=_seed(sampling.seed, number, index)) if max_tokens else None
            for index, max_tokens in enumerate(allowed.max_tokens)
        ]

    def finish(self, outcome: Outcome, others: tuple[Trajectory, ...]) -> SearchResult:
        """Raises DeadlineExceeded when there is no answer."""
        result = self.record.result(
            self.plan.problem, outcome, self.spend, scorer_degraded=self.scorer_degraded, others=others
        )
        if result.stopped_by == "seconds" and not outcome.answer.text:
            raise DeadlineExceeded("time ran out before there was any text")
        return result


def _seed(seed: int | None, expand: int, parent: int) -> int | None:
    """Far from that of any other request, since the engine adds the number of the sample."""
    return None if seed is None else Random(f"{seed} {expand} {parent}").getrandbits(48)
