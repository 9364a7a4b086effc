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


def scorer_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The scorers that the checkpoint is good for, the best one first."""
    return ("likelihood",) if checkpoint.verifier is None else ("verifier", "likelihood")


def raw_scorers(engine: LabelReader, checkpoint: Checkpoint) -> dict[str, RawScorer]:
    """Those of `scorer_names`, in that order. Raises ScorerError."""
    scorers: dict[str, RawScorer] = {}
    if checkpoint.verifier is not None:
        scorers["verifier"] = Verifier(engine, checkpoint.verifier)
    scorers["likelihood"] = Likelihood()
    return scorers
