"""What answers tell of the arms, with the intervals of 95 %."""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from training.evaluation.answers import Answer

BOOTSTRAPS = 2000
SEARCHES = ("swires", "adaptive")
"""The policies with which the others are compared at no more tokens."""


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """Of one arm: the share of right answers, the gain over the first arm on the same problems, the share that this is
    of the first arm's errors, and means of what an answer took."""

    arm: str
    num_problems: int
    num_answers: int
    right: Interval
    gain: Interval
    removed: Interval
    tokens: float
    scored: float
    generations: float
    retraces: float
    seconds: float

    @property
    def policy(self) -> str:
        return self.arm.partition(":")[0]


def results(answers: Sequence[Answer], arms: Sequence[str]) -> list[Result]:
    first = _by_problem(answers, arms[0])
    return [_result([one for one in answers if one.arm == arm], _by_problem(answers, arm), first) for arm in arms]


def _result(mine: Sequence[Answer], shares: Mapping[int, float], first: Mapping[int, float]) -> Result:
    """Repeats of a problem count as one: they tell nothing of other problems."""
    gains = [share - first[problem] for problem, share in shares.items() if problem in first]
    return Result(
        arm=mine[0].arm,
        num_problems=len(shares),
        num_answers=len(mine),
        right=wilson(fmean(shares.values()), len(shares)),
        gain=bootstrap(gains),
        removed=bootstrap(gains, [1 - first[problem] for problem in shares if problem in first]),
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


def bootstrap(values: Sequence[float], of: Sequence[float] | None = None, seed: int = 0) -> Interval:
    """The percentile interval of the mean over resampled `values`, as a share of the mean of what each is `of`."""
    rng = random.Random(seed)
    pairs = list(zip(values, of or [1.0] * len(values), strict=True))
    means = sorted(_share(rng.choices(pairs, k=len(pairs))) for _ in range(BOOTSTRAPS))
    return Interval(_share(pairs), means[round(0.025 * BOOTSTRAPS)], means[round(0.975 * BOOTSTRAPS) - 1])


def _share(pairs: Sequence[tuple[float, float]]) -> float:
    whole = sum(of for _, of in pairs)
    return sum(value for value, _ in pairs) / whole if whole else 0.0


@dataclass(frozen=True)
class Rival:
    """The best arm of SEARCHES that takes no more tokens than `arm`, and its gain over it on the same problems."""

    arm: Result
    best: Result
    gain: Interval


def rivals(answers: Sequence[Answer], rows: Sequence[Result]) -> list[Rival]:
    """For each arm of another policy that has one, the costliest last."""
    searches = [row for row in rows if row.policy in SEARCHES]
    found = []
    for row in sorted(rows, key=lambda row: row.tokens):
        cheaper = [each for each in searches if each.tokens <= row.tokens]
        if row.policy not in SEARCHES and cheaper:
            best = max(cheaper, key=lambda each: each.right.value)
            shares, others = _by_problem(answers, best.arm), _by_problem(answers, row.arm)
            gain = bootstrap([shares[problem] - others[problem] for problem in shares if problem in others])
            found.append(Rival(row, best, gain))
    return found


def table(rows: Sequence[Result]) -> str:
    width = max(len(row.arm) for row in rows)
    names = f"{'policy':<{width}}  {'right':>20}  {'against the first':>20}  {'its errors removed':>20}"
    head = f"{names}  {'tokens':>6}  {'scored':>6}  {'gens':>5}  retraces  seconds"
    return "\n".join([head, *(_line(row, width) for row in rows)])


def _line(row: Result, width: int) -> str:
    texts = (_percent(row.right), _points(row.gain), _percent(row.removed))
    cost = f"{row.tokens:6.0f}  {row.scored:6.0f}  {row.generations:5.1f}  {row.retraces:8.2f}  {row.seconds:7.2f}"
    return "  ".join([f"{row.arm:<{width}}", *(f"{text:>20}" for text in texts), cost])


def rivals_table(found: Sequence[Rival]) -> str:
    width, other = (max(map(len, names)) for names in zip(*((one.arm.arm, one.best.arm) for one in found), strict=True))
    head = f"{'policy':<{width}}  tokens  {'best search with no more':<{other}}  tokens  {'points better':>20}"
    lines = (
        f"{one.arm.arm:<{width}}  {one.arm.tokens:6.0f}  {one.best.arm:<{other}}  {one.best.tokens:6.0f}"
        f"  {_points(one.gain):>20}"
        for one in found
    )
    return "\n".join([head, *lines])


def _percent(share: Interval) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
