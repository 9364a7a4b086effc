import asyncio
import math
from collections.abc import Sequence

import pytest

from server.scorer.fake import FakeScorer
from server.scorer.guarded import Guarded
from swires.errors import EngineError, ScorerError
from swires.protocols import Scores
from swires.types import Problem, Trajectory
from tests.scorer.answers import PROBLEM, captions


class Told(FakeScorer):
    """Gives `value`, or raises it, or never answers."""

    def __init__(self, value: float | Exception | None) -> None:
        self._value = value

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        if self._value is None:
            await asyncio.Event().wait()
        if isinstance(self._value, Exception):
            raise self._value
        return Scores(tuple(self._value or 0.0 for _ in trajectories))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (ScorerError("out of order"), "the scorer told failed: out of order"),
        (None, "the scorer told failed: no answer in 0.01 s"),
        (math.nan, "the scorer told failed: a score is not a number"),
        (-math.inf, "the scorer told failed: a score is not a number"),
    ],
)
async def test_a_failure_is_logged(
    value: float | Exception | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ScorerError):
        await Guarded("told", Told(value), 0.01).score(PROBLEM, captions("Two."))
    assert caplog.messages == [told]


async def test_the_engine_s_failure_is_not_the_scorer_s(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EngineError):
        await Guarded("told", Told(EngineError("dead")), 30).score(PROBLEM, captions("Two."))
    assert not caplog.messages


async def test_scores_and_kind_are_the_scorer_s() -> None:
    guarded, inner = Guarded("fake", FakeScorer(), 30), FakeScorer()
    assert await guarded.score(PROBLEM, captions("Two.")) == await inner.score(PROBLEM, captions("Two."))
    kinds = [(one.needs_likelihood, one.compares, one.ranks) for one in (guarded, inner)]
    assert kinds[0] == kinds[1]
