"""Raw scores of different scorers and stages, made comparable."""

from collections.abc import Sequence

from server.checkpoint import Calibration
from server.scorer.raw import RawScorer
from server.scorer.shown import stage_judged
from swires.errors import ScorerError
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import Problem, Trajectory


class Calibrated:
    """A raw scorer whose scores are standard deviations from its mean for the stage. Keeps swires' Scorer protocol."""

    ranks = False

    def __init__(self, raw: RawScorer, calibration: Calibration) -> None:
        """Raises ScorerError when a stage is not calibrated."""
        require_all_stages(calibration)
        self._raw = raw
        self._calibration = calibration

    @property
    def needs_likelihood(self) -> bool:
        return self._raw.needs_likelihood

    @property
    def compares(self) -> bool:
        return self._raw.compares

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        measured = await self._raw.measure(problem, trajectories)
        usual = [self._calibration[stage_judged(trajectory)] for trajectory in trajectories]
        values = tuple((value - each.mean) / each.std for value, each in zip(measured.values, usual, strict=True))
        return Scores(values, measured.num_tokens, measured.num_cached_tokens)


def require_all_stages(calibration: Calibration) -> None:
    """Raises ScorerError when a stage is not calibrated."""
    missing = [stage.name for stage in Stage if stage not in calibration]
    if missing:
        raise ScorerError(f"no mean and deviation for {', '.join(missing)}: run `swires calibrate` first")
