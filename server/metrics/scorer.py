"""A scorer, timed and counted."""

import time
from collections.abc import Sequence

from server.metrics.families import Families
from swires.errors import EngineError, SwiresError
from swires.protocols import Scorer, Scores
from swires.types import Problem, Trajectory

REASONS = ("timeout", "engine", "error")


class WatchedScorer:
    """Counts what the scorer gives, and its faults. Keeps swires' Scorer protocol."""

    def __init__(self, families: Families, name: str, scorer: Scorer) -> None:
        self._families = families
        self._name = name
        self._scorer = scorer
        for reason in REASONS:  # there from the start, so that the first fault is seen as one
            families.scorer_faults.labels(name, reason)

    @property
    def needs_likelihood(self) -> bool:
        return self._scorer.needs_likelihood

    @property
    def compares(self) -> bool:
        return self._scorer.compares

    @property
    def ranks(self) -> bool:
        return self._scorer.ranks

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        began = time.monotonic()
        try:
            scores = await self._scorer.score(problem, trajectories)
        except SwiresError as error:
            self._families.scorer_faults.labels(self._name, _reason(error)).inc()
            raise
        self._families.scorer_seconds.labels(self._name).observe(time.monotonic() - began)
        self._families.scored_tokens.labels(self._name).inc(scores.num_tokens)
        given = self._families.candidate_score.labels(self._name, trajectories[0].last.stage.name)
        for value in scores.values:
            given.observe(value)
        return scores


def _reason(error: SwiresError) -> str:
    if isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return "engine" if isinstance(error, EngineError) else "error"
