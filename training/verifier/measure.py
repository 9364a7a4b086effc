"""How well verdicts tell right stages from wrong ones, and how true their probabilities are."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """`probability` that a stage of the `problem` is right, as judged, and whether it is."""

    problem: str
    probability: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Verdicts of about the same probability; `count` of them, weighted."""

    probability: float
    share_right: float
    count: float


def auc(verdicts: Sequence[Verdict]) -> float | None:
    """The probability that a right one is judged better than a wrong one, equals counting half; None without both.

    The Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982).
    """
    won, pairs = _won(verdicts)
    return won / pairs if pairs else None


def auc_within(verdicts: Sequence[Verdict]) -> float | None:
    """The same of pairs from one problem, which is what a search chooses from: telling a hard problem from an easy one
    does not help here."""
    by_problem: dict[str, list[Verdict]] = defaultdict(list)
    for one in verdicts:
        by_problem[one.problem].append(one)
    found = [_won(some) for some in by_problem.values()]
    pairs = sum(each for _, each in found)
    return sum(won for won, _ in found) / pairs if pairs else None


def _won(verdicts: Sequence[Verdict]) -> tuple[float, int]:
    """Of how many pairs of a right and a wrong one the right one is judged better, and how many there are."""
    wrong = sorted(one.probability for one in verdicts if not one.right)
    right = [one.probability for one in verdicts if one.right]
    won = sum(bisect_left(wrong, each) + bisect_right(wrong, each) for each in right) / 2
    return won, len(wrong) * len(right)


def reliability(verdicts: Sequence[Verdict], bins: int = BINS) -> list[Bin]:
    """Bins of equal width that are not empty, right and wrong ones weighing the same in all: so a verifier has learned
    them (`verifier label` balances), and so bins compare between stages."""
    weights = _weights(verdicts)
    found = []
    for number in range(bins):
        inside = [
            (weight, one)
            for weight, one in zip(weights, verdicts, strict=True)
            if number == min(bins - 1, int(one.probability * bins))
        ]
        if count := sum(weight for weight, _ in inside):
            probability = sum(weight * one.probability for weight, one in inside) / count
            found.append(Bin(probability, sum(weight for weight, one in inside if one.right) / count, count))
    return found


def calibration_error(verdicts: Sequence[Verdict], bins: int = BINS) -> float | None:
    """Expected calibration error: by how much the bins of `reliability` are off (Guo et al., arXiv 1706.04599,
    equation 3); None without right or without wrong ones."""
    if len({one.right for one in verdicts}) < 2:
        return None
    found = reliability(verdicts, bins)
    return sum(each.count * abs(each.probability - each.share_right) for each in found) / sum(
        each.count for each in found
    )


def _weights(verdicts: Sequence[Verdict]) -> list[float]:
    num_right = sum(one.right for one in verdicts)
    return [1 / num_right if one.right else 1 / (len(verdicts) - num_right) for one in verdicts]
