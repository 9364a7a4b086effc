"""A policy that spends where there is need: most problems take no more than one answer that is looked at twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from swires.budget import Limit, Spend
from swires.choosing import MOST_WIDENED, StageUse, best, rank, require, require_finite
from swires.stages import Stage
from swires.types import ROOT, Expand, Flow, Outcome, Trajectory

PATIENCE = 0.25
"""What a caption's promise loses by each reasoning of it that is not good enough, in standard deviations of its score:
one as good as usual is left after the second."""

FRESH = -0.25
"""What a caption that is not sampled yet promises: a little less than the usual one, which need not be waited for."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """One caption and one reasoning of it. While no reasoning scores above `accept_z`, the search goes back to the
    stage that is to blame, and samples twice as many as the time before, at most `candidates`: to CAPTION where no
    caption promises as much as a fresh one, else to REASONING, of the caption that promises most. It then `widen`s the
    sampling too: more of the same would be wrong in the same way.
    """

    name: ClassVar[str] = "adaptive"
    stages: ClassVar[Mapping[Stage, StageUse]] = {
        Stage.SUMMARY: StageUse(scored=False),
        Stage.CAPTION: StageUse(),
        Stage.REASONING: StageUse(accept_z="accept_z"),
        Stage.CONCLUSION: StageUse(scored=False),
    }
    thresholds: ClassVar[bool] = True
    candidates: int = 4
    max_retraces: int = 4
    accept_z: float = 0.0
    widen: float = 1.7

    def __post_init__(self) -> None:
        require("candidates", self.candidates, least=1)
        require("max_retraces", self.max_retraces, least=0)
        require_finite("accept_z", self.accept_z)
        require("widen", self.widen, least=1, most=MOST_WIDENED)

    @property
    def width(self) -> int:
        return self._samples(self.max_retraces)

    def _samples(self, retraces: int) -> int:
        """How many are sampled after so many retraces."""
        return min(self.candidates, 1 << min(retraces, self._num_doublings))

    @property
    def _num_doublings(self) -> int:
        """Until there are `candidates`."""
        return (self.candidates - 1).bit_length()

    @property
    def least_generations(self) -> int:
        return 4

    @property
    def most_generations(self) -> int:
        doubled = min(1 + self.max_retraces, self._num_doublings)
        return 2 * ((1 << doubled) + (1 + self.max_retraces - doubled) * self.candidates)

    def flow(self, spend: Spend) -> Flow:
        summary = yield Expand(Stage.SUMMARY, (ROOT,), 1, scored=False)
        captions: tuple[Trajectory, ...] = ()
        pool: tuple[Trajectory, ...] = ()
        accepted, final = False, self.max_retraces == 0
        stopped_by: Limit | None = None
        for retraces in range(1 + self.max_retraces):
            samples = self._samples(retraces)
            if pool and (stopped_by := spend.limit_of(2 * samples + 1)):
                break
            widen = self.widen if pool else 1.0
            if all(_promise(caption, pool) < FRESH for caption in captions):
                captions += yield Expand(Stage.CAPTION, summary, samples, final=final, widen=widen)
            caption = max(captions, key=lambda caption: _promise(caption, pool))
            pool += yield Expand(Stage.REASONING, (caption,), samples, final=final, widen=widen)
            accepted = rank(best(pool, 1)[0]) > self.accept_z
            if accepted:
                break
        (answer,) = yield Expand(Stage.CONCLUSION, best(pool, 1), 1, scored=False)
        return Outcome(answer, accepted, stopped_by)


def _promise(caption: Trajectory, pool: Sequence[Trajectory]) -> float:
    """By its score and by what has come of it, or of one that reads the same; nothing in `pool` was good enough."""
    read = _texts(caption)
    return rank(caption) - PATIENCE * sum(_texts(reasoning)[: len(read)] == read for reasoning in pool)


def _texts(trajectory: Trajectory) -> tuple[str, ...]:
    return tuple(candidate.text for candidate in trajectory.candidates)
