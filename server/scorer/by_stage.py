"""Another scorer for some of the stages."""

from collections.abc import Mapping, Sequence

from swires.protocols import Scorer, Scores
from swires.stages import Stage
from swires.types import Problem, Trajectory


class ByStage:
    """Asks the scorer of the stage, else `usual`. Keeps swires' Scorer protocol.

    Of what they need it asks for all: candidates that a scorer of one stage compares are scored at once at every stage.
    """

    def __init__(self, usual: Scorer, scorers: Mapping[Stage, Scorer]) -> None:
        self._usual = usual
        self._scorers = scorers
        self._all = (usual, *scorers.values())

    @property
    def needs_likelihood(self) -> bool:
        return any(scorer.needs_likelihood for scorer in self._all)

    @property
    def compares(self) -> bool:
        return any(scorer.compares for scorer in self._all)

    @property
    def ranks(self) -> bool:
        return any(scorer.ranks for scorer in self._all)

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        """Trajectories of one expansion, and so of one stage."""
        scorer = self._scorers.get(trajectories[0].last.stage, self._usual)
        return await scorer.score(problem, trajectories)
