"""Scorers as they measure, before they are put in relation to what is usual."""

from collections.abc import Sequence
from typing import Protocol

from server.checkpoint import Checkpoint
from server.engine.labels import LabelReader
from server.scorer.likelihood import Likelihood
from server.scorer.verifier import Verifier
from swires.protocols import Scores
from swires.types import Problem, Trajectory


class RawScorer(Protocol):
    @property
    def needs_likelihood(self) -> bool: ...

    @property
    def compares(self) -> bool: ...

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        """Judge the newest candidate of each trajectory on the scorer's own scale. Raises ScorerError, EngineError."""
        ...


def raw_scorers(engine: LabelReader, checkpoint: Checkpoint) -> dict[str, RawScorer]:
    """Those that the checkpoint is good for and that need calibration, the best one first. Raises ScorerError."""
    scorers: dict[str, RawScorer] = {}
    if checkpoint.verifier is not None:
        scorers["verifier"] = Verifier(engine, checkpoint.verifier)
    scorers["likelihood"] = Likelihood()
    return scorers
