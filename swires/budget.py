"""Limits of a search and what it has used of them."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from swires.errors import InvalidPlan

Limit: TypeAlias = Literal["generations", "tokens", "seconds", "answer_tokens", "load", "tree"]
"""What may end a search (`load`: it had fewer generations than its budget, as others waited), or, `tree`, the replay of
one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search, losing candidates and scoring included; `max_answer_tokens` bounds one answer."""

    max_generations: int = 64
    max_total_tokens: int = 65_536
    timeout_s: float = 120.0
    max_answer_tokens: int = 8_192

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not 0 < value < math.inf:
                raise InvalidPlan(f"{limit.name} must be positive, not {value}", field=limit.name)


@dataclass(slots=True)
class Spend:
    """What a search has used: generations begun, tokens generated, tokens of candidates that a scorer has read, seconds
    on `clock`; and the tokens that the scorer computed, and the prompt tokens of all requests, `cached` or computed.

    `reserved` generations are kept for further answers; at most `granted` are begun, where those are fewer than the
    budget's.
    """

    budget: Budget
    clock: Callable[[], float] = time.monotonic
    generations: int = 0
    num_generated_tokens: int = 0
    num_read_tokens: int = 0
    num_scored_tokens: int = 0
    num_cached_tokens: int = 0
    num_computed_tokens: int = 0
    reserved: int = 0
    granted: int | None = None
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.clock()

    def part(self) -> "Spend":
        """What is used apart, under the same limits and since the same time, until it is added or forgotten."""
        part = Spend(self.budget, self.clock, reserved=self.reserved, granted=self.granted)
        part.start = self.start
        return part

    def add(self, part: "Spend") -> None:
        for count in COUNTS:
            setattr(self, count, getattr(self, count) + getattr(part, count))

    @property
    def num_tokens(self) -> int:
        """What the budget is charged: the same whatever the prefix cache held, so that a search can be repeated."""
        return self.num_generated_tokens + self.num_read_tokens

    @property
    def seconds(self) -> float:
        return self.clock() - self.start

    @property
    def deadline(self) -> float:
        """The end of the search's time, on `clock`."""
        return self.start + self.budget.timeout_s

    def allows(self, generations: int) -> bool:
        """Whether so many more generations may be begun."""
        return self.limit_of(generations) is None

    def limit_of(self, generations: int) -> Limit | None:
        """What forbids so many more generations."""
        total = self.generations + generations + self.reserved
        if total > self.budget.max_generations:
            return "generations"
        return "load" if self.granted is not None and total > self.granted else None


COUNTS = (
    "generations",
    "num_generated_tokens",
    "num_read_tokens",
    "num_scored_tokens",
    "num_cached_tokens",
    "num_computed_tokens",
)
