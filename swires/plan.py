"""What one request asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swires.budget import Budget
from swires.errors import InvalidPlan
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import Problem, Sampling


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A problem and how to search for its answer; `samplings` are of the stages that `sampling` is not for.

    Of `num_answers`, the first is what the policy finds; the others are further conclusions of the same reasoning, or
    of as much as a policy has sampled before its last candidate. Raises InvalidPlan when the policy and they cannot fit
    the budget.
    """

    problem: Problem
    policy: SearchPolicy
    sampling: Sampling = field(default_factory=Sampling)
    budget: Budget = field(default_factory=Budget)
    samplings: Mapping[Stage, Sampling] = field(default_factory=dict)
    num_answers: int = 1

    def __post_init__(self) -> None:
        for name in ("max_generations", "max_total_tokens"):
            if getattr(self.budget, name) < (least := self.least_generations):
                raise InvalidPlan(f"{name} must be at least {least} for the policy {self.policy.name}", field=name)

    @property
    def num_others(self) -> int:
        """Answers beyond the policy's own, each one generation."""
        return self.num_answers - 1

    @property
    def least_generations(self) -> int:
        return self.policy.least_generations + self.num_others

    @property
    def most_generations(self) -> int:
        most, limit = self.policy.most_generations, self.budget.max_generations
        return limit if most is None else min(most + self.num_others, limit)

    @property
    def width(self) -> int:
        """The greatest number of candidates at once."""
        return max(self.policy.width, self.num_others)

    def sampling_of(self, stage: Stage) -> Sampling:
        """How candidates that end with `stage` are sampled."""
        return self.samplings.get(stage, self.sampling)

    @property
    def max_tokens(self) -> Mapping[Stage, int]:
        """The most that each stage may have; a candidate of several stages may have the sum."""
        return {stage: self.sampling_of(stage).max_tokens for stage in Stage}
