"""How likely the model itself found what it wrote; costs nothing, since sampling computes it."""

from collections.abc import Sequence

from swires.errors import ScorerError
from swires.protocols import Scores
from swires.types import Problem, Trajectory


class Likelihood:
    """The raw score is the candidate's mean log-probability of a token, in nats."""

    needs_likelihood = True
    compares = False

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        means = [trajectory.last.mean_logprob for trajectory in trajectories]
        known = tuple(mean for mean in means if mean is not None)
        if len(known) < len(means):
            raise ScorerError("a candidate carries no log-probability")
        return Scores(known)
