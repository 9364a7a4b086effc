"""Measures against slow obvious ones."""

from random import Random
from statistics import fmean

import pytest

from training.verifier.measure import Verdict, auc, auc_within, calibration_error, reliability

PROBLEMS = "abc"


def drawn(rng: Random, count: int) -> list[Verdict]:
    return [
        Verdict(rng.choice(PROBLEMS), rng.choice([0.0, 0.25, 0.5, rng.random(), 1.0]), rng.random() < 0.4)
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    verdicts = drawn(Random(seed), 40)
    pairs = [(one, other) for one in verdicts if one.right for other in verdicts if not other.right]
    assert auc(verdicts) == pytest.approx(fmean(map(won, pairs)))
    same = [(one, other) for one, other in pairs if one.problem == other.problem]
    assert auc_within(verdicts) == pytest.approx(fmean(map(won, same)))


def won(pair: tuple[Verdict, Verdict]) -> float:
    right, wrong = (one.probability for one in pair)
    return (right > wrong) + (right == wrong) / 2


def test_without_both_kinds_nothing_is_measured() -> None:
    for right in (False, True):
        verdicts = [Verdict("a", 0.5, right)] * 3
        assert auc(verdicts) is None
        assert auc_within(verdicts) is None
        assert calibration_error(verdicts) is None


@pytest.mark.parametrize("copies", [1, 5])
def test_calibration_does_not_depend_on_how_many_are_right(copies: int) -> None:
    """0.8 said of three in four right and 0.2 of one in four, however often the right ones are repeated."""
    right = [Verdict("a", 0.8, True)] * 3 + [Verdict("a", 0.2, True)]
    wrong = [Verdict("a", 0.8, False)] + [Verdict("a", 0.2, False)] * 3
    verdicts = right * copies + wrong
    assert calibration_error(verdicts) == pytest.approx(0.05)
    low, high = reliability(verdicts)
    assert (low.probability, low.share_right) == pytest.approx((0.2, 0.25))
    assert (high.probability, high.share_right) == pytest.approx((0.8, 0.75))


def test_the_surest_verdict_is_in_the_last_bin() -> None:
    assert [each.share_right for each in reliability([Verdict("a", 1.0, True), Verdict("a", 0.95, False)])] == [0.5]
