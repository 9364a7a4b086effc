"""What answers tell of the arms, with the intervals of 95 %."""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from training.evaluation.answers import Answer

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """Of one arm: the share of right answers, the gain over the first arm on the same problems, and means of what an
    answer took."""

    arm: str
    num_problems: int
    num_answers: int
    right: Interval
    gain: Interval
    tokens: float
    scored: float
    generations: float
    retraces: float
    seconds: float


def results(answers: Sequence[Answer], arms: Sequence[str]) -> list[Result]:
    first = _by_problem(answers, arms[0])
    return [_result([one for one in answers if one.arm == arm], _by_problem(answers, arm), first) for arm in arms]


def _result(mine: Sequence[Answer], shares: Mapping[int, float], first: Mapping[int, float]) -> Result:
    """Repeats of a problem count as one: they tell nothing of other problems."""
    return Result(
        arm=mine[0].arm,
        num_problems=len(shares),
        num_answers=len(mine),
        right=wilson(fmean(shares.values()), len(shares)),
        gain=bootstrap([share - first[problem] for problem, share in shares.items() if problem in first]),
        tokens=fmean(one.tokens for one in mine),
        scored=fmean(one.scored for one in mine),
        generations=fmean(one.generations for one in mine),
        retraces=fmean(one.retraces for one in mine),
        seconds=fmean(one.seconds for one in mine),
    )


def _by_problem(answers: Sequence[Answer], arm: str) -> Mapping[int, float]:
    """The share of right answers to each problem."""
    right: dict[int, list[bool]] = defaultdict(list)
    for one in answers:
        if one.arm == arm:
            right[one.problem].append(one.right)
    return {problem: fmean(each) for problem, each in sorted(right.items())}


def wilson(share: float, count: int, z: float = 1.96) -> Interval:
    """The Wilson score interval of a share (E. B. Wilson, JASA 22, 1927)."""
    spread = z * z / count
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / count + spread / count / 4)
    return Interval(share, (middle - half) / (1 + spread), (middle + half) / (1 + spread))


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """The percentile interval of the mean over resampled `values`."""
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(BOOTSTRAPS))
    return Interval(fmean(values), means[round(0.025 * BOOTSTRAPS)], means[round(0.975 * BOOTSTRAPS) - 1])


def table(rows: Sequence[Result]) -> str:
    width = max(len(row.arm) for row in rows)
    names = f"{'policy':<{width}}  {'right':>20}  {'against the first':>20}"
    head = f"{names}  {'tokens':>6}  {'scored':>6}  {'gens':>5}  retraces"
    return "\n".join([head, *(_line(row, width) for row in rows)])


def _line(row: Result, width: int) -> str:
    right = f"{row.right.value:.1%} [{row.right.low:.1%}, {row.right.high:.1%}]"
    gain = f"{100 * row.gain.value:+.1f} [{100 * row.gain.low:+.1f}, {100 * row.gain.high:+.1f}]"
    cost = f"{row.tokens:6.0f}  {row.scored:6.0f}  {row.generations:5.1f}  {row.retraces:8.2f}"
    return f"{row.arm:<{width}}  {right:>20}  {gain:>20}  {cost}"
