"""The seams of a search: what samples, what scores, what decides."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from swires.budget import Spend
from swires.stages import Stage
from swires.types import FinishReason, Flow, Problem, Sampling, TokenLogprob, Trajectory


@dataclass(frozen=True, slots=True)
class Chunk:
    """New ids of candidate `index` and, at the latest with the last of its chunks, which has the `finish_reason`, their
    text. Those of a live candidate agree chunk by chunk, since it may be cut and continued after any of them.

    `logprob` (the candidate's sum, in nats) and `token_logprobs`, where asked for, and the prompt tokens of the engine
    request (`cached` of them not computed again) come with the last chunk.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    token_logprobs: tuple[TokenLogprob, ...] = ()


class Engine(Protocol):
    def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Sample `n` continuations of `prefix` (token ids after the prompt) through the closing tag of `stage`.

        Candidates are handed on as they finish, with `live` also as they grow. Closing the generator aborts what still
        runs. With a seed, candidate i is sampled with seed + i. Raises EngineError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in standard deviations from the scorer's calibrated mean for the stage, and the tokens it computed."""

    values: tuple[float, ...]
    num_tokens: int = 0
    num_cached_tokens: int = 0


class Scorer(Protocol):
    @property
    def needs_likelihood(self) -> bool:
        """Whether candidates must carry their log-probability."""
        ...

    @property
    def compares(self) -> bool:
        """Whether a score depends on the other candidates too: all of an expansion are then scored at once."""
        ...

    @property
    def ranks(self) -> bool:
        """Whether scores only order the candidates of one call, and so mean nothing to a policy that `thresholds`."""
        ...

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        """Score the newest candidate of each trajectory. Raises ScorerError, which the search survives, EngineError."""
        ...


class SearchPolicy(Protocol):
    """What to sample next and which trajectory is the answer, decided from scores alone."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int:
        """The greatest number of candidates at once."""
        ...

    @property
    def least_generations(self) -> int: ...

    @property
    def most_generations(self) -> int | None:
        """None for as many as the budget allows."""
        ...

    @property
    def thresholds(self) -> bool:
        """Whether it compares scores with a fixed one or across expansions."""
        ...

    def flow(self, spend: Spend) -> Flow:
        """One search; keeps within the generations that `spend` allows."""
        ...
