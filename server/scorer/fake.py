"""A scorer for tests of what stands above it."""

from collections.abc import Sequence
from random import Random

from swires.protocols import Scores
from swires.types import Problem, Trajectory


class FakeScorer:
    """A score is a function of the trajectory's text alone, spread as a calibrated scorer's would be."""

    needs_likelihood = False
    compares = False
    ranks = False

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        return Scores(tuple(Random(trajectory.text).gauss(0, 1) for trajectory in trajectories))
