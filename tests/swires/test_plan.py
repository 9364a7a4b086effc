import math

import pytest

from swires.budget import Budget
from swires.errors import InvalidPlan
from swires.plan import SearchPlan
from swires.policies import POLICIES
from swires.stages import Stage
from swires.types import Sampling
from tests.swires.scripted import PROBLEM


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("limit", ["max_generations", "max_total_tokens"])
def test_a_policy_must_fit_the_budget(name: str, limit: str) -> None:
    policy = POLICIES[name]()
    least = policy.least_generations
    SearchPlan(PROBLEM, policy, budget=Budget(**{limit: least}))
    if least > 1:
        with pytest.raises(InvalidPlan, match=f"{limit} must be at least {least}") as refused:
            SearchPlan(PROBLEM, policy, budget=Budget(**{limit: least - 1}))
        assert refused.value.field == limit


@pytest.mark.parametrize("name", POLICIES)
def test_further_answers_must_fit_the_budget_too(name: str) -> None:
    policy = POLICIES[name]()
    plan = SearchPlan(PROBLEM, policy, budget=Budget(max_generations=policy.least_generations + 4), num_answers=5)
    assert plan.width == max(policy.width, 4)
    with pytest.raises(InvalidPlan, match="max_generations must be at least"):
        SearchPlan(PROBLEM, policy, budget=plan.budget, num_answers=6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("temperature", math.inf), ("temperature", math.nan), ("top_p", 0), ("top_p", 1.1)],
)
def test_sampling_must_be_possible(field: str, value: float) -> None:
    with pytest.raises(InvalidPlan, match=field) as refused:
        Sampling(**{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_candidate_has_a_token_at_least() -> None:
    with pytest.raises(InvalidPlan, match="max_tokens"):
        Sampling(max_tokens=0)


def test_a_stage_is_sampled_as_its_own_sampling_says() -> None:
    own = Sampling(temperature=1.0, max_tokens=7)
    plan = SearchPlan(PROBLEM, POLICIES["swires"](), Sampling(max_tokens=9), samplings={Stage.CAPTION: own})
    assert [plan.sampling_of(stage) is own for stage in Stage] == [False, True, False, False]
    assert [plan.max_tokens[stage] for stage in Stage] == [9, 7, 9, 9]
