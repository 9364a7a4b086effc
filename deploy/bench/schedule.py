"""A search policy driven by hand, one call after another: what a user writes who has only a way to sample."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import TypeAlias

from swires.budget import Budget, Spend
from swires.parser import parse
from swires.policies import Swires
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import Expand, Trajectory

BALANCED = Swires(max_retraces=2, widen=1.7)
"""As the server's default preset has it."""

ONE_ROUND = Swires(max_retraces=0)
"""For candidates of fixed lengths: their text is noise, of which none would ever be accepted."""

TEMPERATURE, TOP_P = 0.6, 0.9

Grow: TypeAlias = Callable[[Expand], Awaitable[tuple[Trajectory, ...]]]


async def follow(policy: SearchPolicy, grow: Grow) -> tuple[Trajectory, int]:
    """The answer, and how many candidates it took."""
    spend = Spend(Budget())
    with closing(policy.flow(spend)) as flow:
        try:
            expand = next(flow)
            while True:
                spend.generations += expand.num_candidates
                expand = flow.send(await grow(expand))
        except StopIteration as end:
            return end.value.answer, spend.generations


def sampling(expand: Expand) -> tuple[float, float]:
    """Temperature and top_p."""
    return (TEMPERATURE * expand.widen, 1.0) if expand.widen > 1 else (TEMPERATURE, TOP_P)


def conclusion(text: str) -> str:
    """What a transcript with tags concludes."""
    return next((section.text for section in parse(text) if section.stage is Stage.CONCLUSION), "")
