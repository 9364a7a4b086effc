"""What one request asks for."""

from dataclasses import dataclass, field

from swires.budget import Budget
from swires.errors import InvalidPlan
from swires.protocols import SearchPolicy
from swires.types import Problem, Sampling


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A problem and how to search for its answer. Raises InvalidPlan when the policy cannot fit the budget."""

    problem: Problem
    policy: SearchPolicy
    sampling: Sampling = field(default_factory=Sampling)
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        least = self.policy.least_generations
        for name in ("max_generations", "max_total_tokens"):
            if getattr(self.budget, name) < least:
                raise InvalidPlan(f"{name} must be at least {least} for the policy {self.policy.name}", field=name)
