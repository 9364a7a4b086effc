"""What policies share: how trajectories are ordered, how numbers are refused, what is made of a stage."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from swires.errors import InvalidPlan
from swires.types import Trajectory


@dataclass(frozen=True, slots=True)
class StageUse:
    """What a policy makes of a stage that it samples by itself: the names of its numbers for how many candidates there
    are and for the threshold on their scores, where it has them, and whether they are scored."""

    candidates: str | None = None
    accept_z: str | None = None
    scored: bool = True


def best(trajectories: Iterable[Trajectory], k: int) -> tuple[Trajectory, ...]:
    """The `k` with the highest scores, best first; the earlier of equals first, no score counts as 0."""
    return tuple(sorted(trajectories, key=rank, reverse=True)[:k])


def rank(trajectory: Trajectory) -> float:
    """Its score; none counts as the scorer's mean."""
    return trajectory.score or 0.0


MOST_WIDENED = 10.0
"""Beyond that, samples are noise."""


def require(field: str, value: float, *, least: float, most: float | None = None) -> None:
    if not value >= least:
        raise InvalidPlan(f"{field} must be at least {least:g}, not {value}", field=field)
    if most is not None and not value <= most:
        raise InvalidPlan(f"{field} must be at most {most:g}, not {value}", field=field)


def require_finite(field: str, value: float) -> None:
    if not math.isfinite(value):
        raise InvalidPlan(f"{field} must be finite, not {value}", field=field)
