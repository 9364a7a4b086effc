from collections.abc import Sequence

import pytest

from server.scorer.by_stage import ByStage
from server.scorer.fake import FakeScorer
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import Problem, Trajectory
from tests.scorer.answers import PROBLEM, SUMMARY, captions, then


class Noting(FakeScorer):
    def __init__(self, **needs: bool) -> None:
        self.scored: list[Stage] = []
        vars(self).update(needs)

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        self.scored += [trajectory.last.stage for trajectory in trajectories]
        return await super().score(problem, trajectories)


async def test_each_stage_is_scored_by_its_own_scorer() -> None:
    usual, other = Noting(), Noting()
    scorer = ByStage(usual, {Stage.CAPTION: other})
    for stage in Stage:
        await scorer.score(PROBLEM, [then(SUMMARY, stage, "One."), then(SUMMARY, stage, "Two.")])
    assert other.scored == [Stage.CAPTION] * 2
    assert usual.scored == [stage for stage in Stage if stage is not Stage.CAPTION for _ in range(2)]
    assert await scorer.score(PROBLEM, captions("Two.")) == await other.score(PROBLEM, captions("Two."))


@pytest.mark.parametrize("need", ["needs_likelihood", "compares", "ranks"])
def test_what_one_of_them_needs_all_have(need: str) -> None:
    for usual, other in ((False, False), (True, False), (False, True)):
        scorer = ByStage(Noting(**{need: usual}), {Stage.CAPTION: Noting(**{need: other})})
        assert getattr(scorer, need) is (usual or other)
