"""Limits of a search and what it has used of them."""

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Limit: TypeAlias = Literal["generations", "tokens", "seconds"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search, losing candidates and scoring included; `max_answer_tokens` bounds one answer."""

    max_generations: int = 64
    max_tokens: int = 65_536
    timeout_s: float = 120.0
    max_answer_tokens: int = 8_192
