"""What a model with a head of labels makes of a conversation: what a reward model asks of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from swires.types import Message

Conversation: TypeAlias = Sequence[Message]
"""Images are data URLs in it; the last message is the assistant's."""


@dataclass(frozen=True, slots=True)
class Classified:
    """The logit of each label, and what it took here; nothing where another machine has done it."""

    logits: tuple[float, ...]
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


class Classifier(Protocol):
    async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        """Read all of them at once. Raises ScorerError, EngineError, InvalidPlan for what the model cannot take."""
        ...
