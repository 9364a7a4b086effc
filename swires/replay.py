"""A search that is over, decided anew: its candidates are there already, and nothing is sampled."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import inf

from swires.budget import Spend
from swires.errors import ScorerError
from swires.plan import SearchPlan
from swires.protocols import Scorer, Scores
from swires.record import Record
from swires.result import Node, SearchResult
from swires.stages import Stage
from swires.types import Candidate, Expand, Flow, Outcome, Problem, Trajectory


@dataclass(frozen=True, slots=True)
class Replay:
    """`lacking` is the first expansion for which the tree did not hold enough candidates."""

    result: SearchResult
    lacking: Expand | None


async def replay(plan: SearchPlan, nodes: Iterable[Node], scorer: Scorer) -> Replay:
    """Let the plan's policy decide over the candidates of a tree.

    Candidates of one parent are handed out in the order in which they were sampled, and each but once, to a retrace
    those that are left. Where the tree does not hold an expansion whole, `stopped_by` is `tree`: of conclusions the
    policy gets those that there are, or what was to be concluded; with an earlier stage it ends, and as at any limit of
    a search the best so far is concluded, if the tree has a conclusion of it. Of the budget only the generations bound
    a replay. Raises ScorerError.
    """
    replaying = _Replaying(plan, nodes, scorer)
    with closing(plan.policy.flow(replaying.spend)) as flow:
        outcome = await replaying.follow(flow)
    replaying.record.commit(outcome.answer)
    result = replaying.record.result(plan.problem, outcome, replaying.spend, scorer_degraded=False)
    return Replay(result, replaying.lacking)


class StoredScores:
    """The scores that the candidates of a tree have. Keeps the Scorer protocol."""

    needs_likelihood = False
    compares = False
    ranks = False

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._scores = {node.candidate.id: node.score for node in nodes}

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        scores = {trajectory.last.id: self._scores[trajectory.last.id] for trajectory in trajectories}
        known = tuple(score for score in scores.values() if score is not None)
        if len(known) < len(scores):
            unscored = next(id_ for id_, score in scores.items() if score is None)
            raise ScorerError(f"candidate {unscored} was never scored")
        return Scores(known)


class _Replaying:
    def __init__(self, plan: SearchPlan, nodes: Iterable[Node], scorer: Scorer) -> None:
        self.plan = plan
        self.scorer = scorer
        self.spend = Spend(plan.budget, lambda: 0.0)
        self.record = Record(lambda event: None)
        self.lacking: Expand | None = None
        self._left: dict[tuple[int | None, Stage], deque[Candidate]] = defaultdict(deque)
        for node in nodes:
            self._left[node.parent, node.candidate.stage].append(node.candidate)

    async def follow(self, flow: Flow) -> Outcome:
        try:
            expand = next(flow)
            while True:
                if not self.spend.allows(expand.num_candidates):
                    return await self.conclude(Outcome(self.record.furthest(), stopped_by="generations"))
                grown = await self.expand(expand)
                if len(grown) < expand.num_candidates:
                    goes_on = expand.concludes and self.lacking is None
                    self.lacking = self.lacking or expand
                    if not goes_on:
                        return await self.conclude(Outcome(self.record.furthest(), stopped_by="tree"))
                expand = flow.send(grown or expand.parents)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome if self.lacking is None else replace(outcome, stopped_by="tree")

    async def conclude(self, outcome: Outcome) -> Outcome:
        """With a conclusion, if the answer lacks one and the tree holds it."""
        if Stage.CONCLUSION.closing in outcome.answer.text or not self.spend.allows(1):
            return outcome
        grown = await self.expand(Expand(Stage.CONCLUSION, (outcome.answer,), 1, scored=False))
        return Outcome(grown[0], outcome.accepted, outcome.stopped_by) if grown else outcome

    async def expand(self, expand: Expand) -> tuple[Trajectory, ...]:
        """As much of it as the tree still holds."""
        held = [(parent, candidate) for parent in expand.parents for candidate in self._held(expand, parent)]
        if not held:
            return ()
        self.record.begin(expand)
        self.spend.generations += len(held)
        scores = await self._scores(expand, [parent.then(candidate) for parent, candidate in held])
        grown = tuple(parent.then(candidate, scores[candidate.id]) for parent, candidate in held)
        self.record.add(expand, grown)
        return grown

    def _held(self, expand: Expand, parent: Trajectory) -> list[Candidate]:
        left = self._left[parent.last.id if parent.candidates else None, expand.stage]
        return [left.popleft() for _ in range(min(expand.samples, len(left)))]

    async def _scores(self, expand: Expand, grown: Sequence[Trajectory]) -> dict[int, float | None]:
        """By candidate, as in a search: what is not whole loses."""
        if not expand.scored:
            return {trajectory.last.id: None for trajectory in grown}
        whole = [trajectory for trajectory in grown if trajectory.last.finish_reason == "stop"]
        values = (await self.scorer.score(self.plan.problem, whole)).values if whole else ()
        scores: dict[int, float | None] = {trajectory.last.id: -inf for trajectory in grown}
        return scores | {trajectory.last.id: value for trajectory, value in zip(whole, values, strict=True)}
