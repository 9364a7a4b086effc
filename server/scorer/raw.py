"""A scorer as it measures, before it is put in relation to what is usual."""

from collections.abc import Sequence
from typing import Protocol

from swires.protocols import Scores
from swires.types import Problem, Trajectory


class RawScorer(Protocol):
    @property
    def needs_likelihood(self) -> bool: ...

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        """Judge the newest candidate of each trajectory on the scorer's own scale. Raises ScorerError, EngineError."""
        ...
