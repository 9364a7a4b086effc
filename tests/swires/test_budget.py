import math
from collections.abc import Iterator

import pytest

from swires.budget import Budget, Spend
from swires.errors import InvalidPlan


@pytest.mark.parametrize("limit", ["max_generations", "max_total_tokens", "timeout_s", "max_answer_tokens"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_limits_are_positive(limit: str, value: float) -> None:
    with pytest.raises(InvalidPlan, match=limit) as refused:
        Budget(**{limit: value})  # type: ignore[arg-type]
    assert refused.value.field == limit


def test_generations_up_to_the_limit() -> None:
    spend = Spend(Budget(max_generations=10), generations=7)
    assert spend.allows(3)
    assert not spend.allows(4)


def test_what_is_reserved_is_not_allowed() -> None:
    spend = Spend(Budget(max_generations=5), reserved=2)
    assert (spend.allows(3), spend.allows(4)) == (True, False)


def test_time_runs_on_the_clock_that_is_given() -> None:
    times: Iterator[float] = iter([100.0, 102.5])
    spend = Spend(Budget(timeout_s=4.0), lambda: next(times))
    assert spend.seconds == 2.5
    assert spend.deadline == 104.0


def test_scoring_counts_as_tokens_whatever_it_computes() -> None:
    spend = Spend(Budget(), num_generated_tokens=5, num_read_tokens=2, num_scored_tokens=90, num_computed_tokens=90)
    assert spend.num_tokens == 7
