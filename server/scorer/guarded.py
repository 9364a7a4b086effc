"""What stands between a search and a scorer that may fail."""

import asyncio
import logging
import math
from collections.abc import Sequence

from server.span import Attributes, span
from swires.errors import ScorerError
from swires.protocols import Scorer, Scores
from swires.types import Problem, Trajectory

logger = logging.getLogger(__name__)


class Guarded:
    """Gives a scorer up after `timeout_s`, and tells the log why it failed. Keeps swires' Scorer protocol."""

    def __init__(self, name: str, scorer: Scorer, timeout_s: float) -> None:
        self._name = name
        self._scorer = scorer
        self._timeout_s = timeout_s

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
        told: Attributes = {"swires.scorer": self._name, "swires.candidates": len(trajectories)}
        try:
            with span("score", told):
                return await self._scored(problem, trajectories)
        except ScorerError as error:
            logger.warning("the scorer %s failed: %s", self._name, error)
            raise

    async def _scored(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        try:
            async with asyncio.timeout(self._timeout_s):
                scores = await self._scorer.score(problem, trajectories)
        except TimeoutError as error:
            raise ScorerError(f"no answer in {self._timeout_s:g} s") from error
        if not all(map(math.isfinite, scores.values)):
            raise ScorerError("a score is not a number")
        return scores
