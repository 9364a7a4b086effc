"""Reading how probable given next tokens are: what a verifier asks of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from swires.types import Problem


@dataclass(frozen=True, slots=True)
class LabelRead:
    """Log-probabilities (in nats, at temperature 1) of the labels asked for, in their order, and what it took."""

    logprobs: tuple[float, ...]
    num_prompt_tokens: int
    num_cached_tokens: int


class LabelReader(Protocol):
    @property
    def max_model_len(self) -> int: ...

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of `text`, nothing added."""
        ...

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        """How probable each token of `labels` is right after each of `prefixes`; read at once. Raises EngineError."""
        ...
