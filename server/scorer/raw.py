"""Scorers as they measure, before they are put in relation to what is usual."""

from collections.abc import Sequence
from typing import Protocol

from server.checkpoint import Checkpoint
from server.engine.classifier import Classifier
from server.engine.labels import LabelReader
from server.scorer.likelihood import Likelihood
from server.scorer.reward_model import RewardModel
from server.scorer.verifier import Verifier
from server.settings import Sees
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


def raw_scorers(
    engine: LabelReader | None, checkpoint: Checkpoint, sees: Sees = "answer", classifier: Classifier | None = None
) -> dict[str, RawScorer]:
    """Those that can be and that need calibration, the best one first; without an engine no verifier.

    Raises ScorerError.
    """
    scorers: dict[str, RawScorer] = {}
    if engine is not None and checkpoint.verifier is not None:
        scorers["verifier"] = Verifier(engine, checkpoint.verifier, sees)
    if classifier is not None:
        scorers["reward_model"] = RewardModel(classifier, sees)
    scorers["likelihood"] = Likelihood()
    return scorers


def calibration_key(name: str, sees: Sees) -> str:
    """Under which a scorer's calibration is kept: what it is shown changes its scores."""
    return name if sees == "answer" or name == "likelihood" else f"{name}:{sees}"
