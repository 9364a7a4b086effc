"""What the simulation goes by: how long an engine's steps take, and searches as they were."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

ROOT = -1
"""The parent of what continues the prompt itself."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises OSError, or ValueError where the file does not hold what it should."""
        return cls.model_validate_json(path.read_text())


class StepTimes(_File):
    """Of one replica, in seconds."""

    source: str = Field(description="where these numbers are from")
    decode_s: Mapping[int, float] = Field(min_length=2, description="one step, by the number of running requests")
    prefill_token_s: float = Field(ge=0, description="more for each token of a prompt that is not cached")
    image_s: float = Field(ge=0, description="more for each image that is encoded")
    request_s: float = Field(ge=0, description="more for each request that joins")
    turnaround_s: float = Field(ge=0, description="before a request joins, while the engine does other work")
    front_request_s: float = Field(ge=0, description="the server's own process, for each request to the engine")

    def step_s(self, num_running: int, num_joining: int, num_prefilled: int, num_images: int) -> float:
        joining = num_joining * self.request_s + num_prefilled * self.prefill_token_s + num_images * self.image_s
        return self._decoding(num_running) + joining

    def _decoding(self, num_running: int) -> float:
        if num_running not in self._known:
            self._known[num_running] = self._between(num_running)
        return self._known[num_running]

    @cached_property
    def _known(self) -> dict[int, float]:
        return dict(self.decode_s)

    def _between(self, num_running: int) -> float:
        """On the line through the two nearest that are told, beyond the last as between the last two."""
        pairs = list(pairwise(sorted(self.decode_s.items())))
        (few, less), (many, more) = next((pair for pair in pairs if num_running <= pair[1][0]), pairs[-1])
        return less + (more - less) * (num_running - few) / (many - few)


class RecordedCandidate(NamedTuple):
    """Of which `read` tells that the scorer had to read it, as it had not read the same before."""

    expansion: int
    parent: int
    tokens: int
    read: bool


class RecordedSearch(NamedTuple):
    prompt_tokens: int
    candidates: tuple[RecordedCandidate, ...]

    @property
    def expansions(self) -> Iterator[tuple[int, ...]]:
        """The candidates of each, by their places."""
        for _, places in groupby(range(len(self.candidates)), lambda place: self.candidates[place].expansion):
            yield tuple(places)

    @property
    def width(self) -> int:
        return max(map(len, self.expansions))

    def stretched(self, length: float) -> tuple[RecordedCandidate, ...]:
        return tuple(each._replace(tokens=max(1, round(each.tokens * length))) for each in self.candidates)


class Workload(_File):
    """Recorded searches, of which those to come are drawn."""

    source: str = Field(description="of which checkpoint, problems and policy they are")
    block: int = Field(ge=1, description="tokens that the engine caches together")
    searches: tuple[RecordedSearch, ...] = Field(min_length=1)

    @property
    def requests_per_search(self) -> float:
        return sum(1 + each.read for search in self.searches for each in search.candidates) / len(self.searches)

    @property
    def tokens_per_search(self) -> float:
        return sum(each.tokens for search in self.searches for each in search.candidates) / len(self.searches)

    def scaled(self, *, prompt_tokens: int, length: float) -> "Workload":
        """The same trees with prompts of so many tokens and `length` times the candidates': an assumption."""
        source = f"{self.source}; assumed: {length:g} times the tokens, prompts of {prompt_tokens} tokens"
        searches = tuple(RecordedSearch(prompt_tokens, search.stretched(length)) for search in self.searches)
        return self.model_copy(update={"source": source, "searches": searches})
