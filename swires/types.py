"""The frozen values that a search passes on."""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, TypeAlias

from swires.budget import Limit
from swires.errors import InvalidPlan
from swires.stages import Stage

FinishReason: TypeAlias = Literal["stop", "length", "cut", "failed"]
"""`stop`: at the stage's closing tag, a stop string or the end of the answer; `length`: at `max_tokens`;
`cut`: the search did not wait for it; `failed`: the engine gave it up."""


Message: TypeAlias = Mapping[str, Any]
"""Of a chat, as OpenAI's API has it, its content in parts: `{"role": "user", "content": [{"type": "text", ...}]}`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rendered prompt with its images. `prompt` is the engine's own form of it, opaque to the search; `messages` are
    the client's, images as sent, for scorers that ask another model. Problems of another `cache_salt` share nothing in
    the engine's caches."""

    prompt: object
    num_prompt_tokens: int
    messages: tuple[Message, ...] = field(default=(), repr=False)
    cache_salt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How candidates are sampled; `max_tokens` bounds a candidate, in a search each stage of one; `likelihood` asks
    for log-probabilities, `top_logprobs` for those of each token and of so many likeliest in its place. With a
    `json_schema` a candidate of CONCLUSION is this stage alone, JSON that keeps to the schema between its tags."""

    temperature: float = 0.6
    top_p: float = 0.9
    max_tokens: int = 2048
    seed: int | None = None
    stop: tuple[str, ...] = ()
    likelihood: bool = False
    top_logprobs: int | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InvalidPlan(f"temperature must not be negative, but is {self.temperature}", field="temperature")
        if not 0 < self.top_p <= 1:
            raise InvalidPlan(f"top_p must be above 0 and at most 1, not {self.top_p}", field="top_p")
        if self.max_tokens < 1:
            raise InvalidPlan(f"max_tokens must be at least 1, not {self.max_tokens}", field="max_tokens")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What a token adds to the text of its candidate (a character of several tokens is added by the last of them), its
    log-probability, and the likeliest tokens in its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled continuation up to the end of `stage`: its text and ids as sampled, tags included."""

    id: int
    stage: Stage
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprob: float | None = None
    token_logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)

    @property
    def mean_logprob(self) -> float | None:
        return None if self.logprob is None else self.logprob / max(1, len(self.token_ids))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Chosen candidates, first stage to last, with the score of each (None where none was asked for)."""

    candidates: tuple[Candidate, ...] = ()
    scores: tuple[float | None, ...] = ()

    def then(self, candidate: Candidate, score: float | None = None) -> "Trajectory":
        return Trajectory((*self.candidates, candidate), (*self.scores, score))

    @property
    def last(self) -> Candidate:
        return self.candidates[-1]

    @property
    def parent(self) -> "Trajectory":
        """Without the newest candidate."""
        return Trajectory(self.candidates[:-1], self.scores[:-1])

    @property
    def score(self) -> float | None:
        return self.scores[-1] if self.scores else None

    @property
    def text(self) -> str:
        return "".join(candidate.text for candidate in self.candidates)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(candidate.token_ids for candidate in self.candidates))

    @property
    def num_tokens(self) -> int:
        return sum(len(candidate.token_ids) for candidate in self.candidates)


ROOT = Trajectory()


@dataclass(frozen=True, slots=True)
class Expand:
    """Sample `samples` continuations of each of `parents` through `stage`.

    `final` promises that the answer descends from one of the resulting trajectories, so that what `parents` have in
    common, and the tokens of a lone candidate, may be shown at once. `stop` ends a candidate before its stage does.
    `widen` multiplies the temperature and, if above 1, admits every token: for where the usual samples fell short.
    """

    stage: Stage
    parents: tuple[Trajectory, ...]
    samples: int
    final: bool = True
    scored: bool = True
    greedy: bool = False
    stop: tuple[str, ...] = ()
    widen: float = 1.0

    @property
    def num_candidates(self) -> int:
        return len(self.parents) * self.samples

    @property
    def concludes(self) -> bool:
        """Whether its candidates are whole answers."""
        return self.stage is Stage.CONCLUSION and not self.stop

    @property
    def live(self) -> bool:
        """Whether it has a lone candidate that is certain to be part of the answer."""
        return self.final and self.num_candidates == 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer; `accepted` is None where no threshold was applied, `stopped_by` the limit that ended the search."""

    answer: Trajectory
    accepted: bool | None = None
    stopped_by: Limit | None = None


Flow: TypeAlias = Generator[Expand, tuple[Trajectory, ...], Outcome]
"""A policy at work: yields what to sample, is sent the scored trajectories (in order: parent by parent, sample by
sample), returns the outcome."""
