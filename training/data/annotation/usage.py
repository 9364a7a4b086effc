"""What calls have cost."""

from dataclasses import dataclass
from typing import Self

from training.data.annotation.call import Reply


@dataclass(frozen=True, slots=True)
class Prices:
    """For a million tokens each, in any currency."""

    prompt: float
    completion: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of some calls; `num_untold` are the calls whose answer came without its `usage`."""

    num_calls: int = 0
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_untold: int = 0

    @classmethod
    def of(cls, reply: Reply) -> Self:
        if reply.num_prompt_tokens is None or reply.num_completion_tokens is None:
            return cls(1, 0, 0, 1)
        return cls(1, reply.num_prompt_tokens, reply.num_completion_tokens)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.num_calls + other.num_calls,
            self.num_prompt_tokens + other.num_prompt_tokens,
            self.num_completion_tokens + other.num_completion_tokens,
            self.num_untold + other.num_untold,
        )

    def scaled(self, factor: float) -> "Usage":
        return Usage(
            round(self.num_calls * factor),
            round(self.num_prompt_tokens * factor),
            round(self.num_completion_tokens * factor),
            round(self.num_untold * factor),
        )

    def cost(self, prices: Prices) -> float:
        prompt, completion = self.num_prompt_tokens * prices.prompt, self.num_completion_tokens * prices.completion
        return (prompt + completion) / 1_000_000

    def told(self, prices: Prices | None) -> str:
        text = f"{self.num_calls:,} calls, {self.num_prompt_tokens:,} tokens in, {self.num_completion_tokens:,} out"
        if prices is not None:
            text += f", cost {self.cost(prices):,.2f}"
        return text + (f" ({self.num_untold:,} calls told no usage)" if self.num_untold else "")
