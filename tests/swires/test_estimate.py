from dataclasses import replace
from itertools import count
from random import Random

import pytest

from swires.budget import Budget
from swires.estimate import SENTENCE_TOKENS, Cost, estimate
from swires.plan import SearchPlan
from swires.policies import POLICIES, BestOfN, Greedy, SentenceBeam, StageBeam, Swires
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import Sampling, Trajectory
from tests.swires.scripted import PROBLEM, Line, Request, ScriptedEngine, ScriptedScorer, searched

LENGTHS = {Stage.SUMMARY: 21.0, Stage.CAPTION: 60.0, Stage.REASONING: 50.0, Stage.CONCLUSION: 30.0}


def plan(policy: SearchPolicy, **limits: int) -> SearchPlan:
    return SearchPlan(PROBLEM, policy, Sampling(max_tokens=100), Budget(**limits))


@pytest.mark.parametrize(
    ("policy", "generations", "tokens"),
    [
        (Greedy(), 1, 161),
        (BestOfN(3), 3, 2 * 3 * 161),
        (StageBeam(candidates=4, keep=2), 16, 2 * 4 * 161),
        (Swires(max_retraces=0), 12, 21 + 2 * 4 * (60 + 50) + 2 * 3 * 30),
        (Swires(accept_z=-100), 12, 21 + 2 * 4 * (60 + 50) + 2 * 3 * 30),
        (Swires(accept_z=100, max_retraces=1), 20, 21 + 2 * 8 * (60 + 50) + 2 * 3 * 30),
        (SentenceBeam(2), 2 * 9, 2 * 2 * 161),
    ],
)
def test_what_does_not_depend_on_chance(policy: SearchPolicy, generations: int, tokens: int) -> None:
    assert estimate(plan(policy), LENGTHS).expected == Cost(generations, tokens)


def scored_by_chance(seed: int) -> ScriptedScorer:
    chance = Random(seed)
    scores: dict[int, float] = {}

    def judge(trajectory: Trajectory) -> float:
        return scores.setdefault(trajectory.last.id, chance.gauss(0, 1))

    return ScriptedScorer(judge)


def written(stage: Stage) -> int:
    """The length of a stage before its end."""
    return int(LENGTHS[stage]) - len(stage.closing)


@pytest.mark.parametrize("name", POLICIES)
def test_searches_cost_what_was_expected_within_the_bounds(name: str) -> None:
    """Over an engine whose stages have the lengths, no two alike, and a scorer whose scores are normal."""
    numbers = count()

    def script(request: Request, index: int) -> Line:
        if request.sampling.stop and len(request.prefix) + SENTENCE_TOKENS < sum(LENGTHS.values()):
            return Line(f"{next(numbers)}.".rjust(SENTENCE_TOKENS))
        missing = [stage for stage in Stage if stage <= request.stage and stage.closing not in request.prefix]
        stages = [Stage.CONCLUSION] if request.sampling.stop else missing
        return Line(
            "".join(f"{stage.opening}{next(numbers)}".ljust(written(stage), ".") + stage.closing for stage in stages)
        )

    told = estimate(plan(POLICIES[name]()), LENGTHS)
    results = [
        searched(plan(POLICIES[name]()), ScriptedEngine(script), scored_by_chance(seed))[0] for seed in range(200)
    ]
    generations = [result.generations for result in results]
    assert told.least.generations <= min(generations)
    assert max(generations) <= told.greatest.generations
    assert sum(generations) / len(generations) == pytest.approx(told.expected.generations, rel=0.2)
    generated = [result.tokens.generated for result in results]
    assert told.least.tokens <= min(generated)
    assert 2 * max(generated) <= told.greatest.tokens or name == "greedy"


def test_retraces_are_expected_as_the_threshold_makes_them() -> None:
    expected = [estimate(plan(Swires(accept_z=z)), LENGTHS).expected.generations for z in (-1, 0.2533, 1, 2)]
    assert expected == sorted(set(expected))
    assert expected[0] > 12
    assert expected[-1] < 44


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("limits", [{}, {"max_generations": 20}, {"max_total_tokens": 900}, {"max_answer_tokens": 90}])
@pytest.mark.parametrize("num_answers", [1, 4])
def test_the_budget_is_kept_and_the_three_are_in_order(name: str, limits: dict[str, int], num_answers: int) -> None:
    asked = replace(plan(POLICIES[name](), **limits), num_answers=num_answers)
    for lengths in (LENGTHS, {}):
        told = estimate(asked, lengths)
        for less, more in ((told.least, told.expected), (told.expected, told.greatest)):
            assert less.generations <= more.generations
            assert less.tokens <= more.tokens
        assert told.greatest.generations <= asked.budget.max_generations
        assert told.greatest.tokens <= asked.budget.max_total_tokens


@pytest.mark.parametrize("name", POLICIES)
def test_further_answers_are_a_conclusion_each(name: str) -> None:
    one, three = plan(POLICIES[name]()), replace(plan(POLICIES[name]()), num_answers=3)
    less, more = estimate(one, LENGTHS).expected, estimate(three, LENGTHS).expected
    assert (more.generations, more.tokens) == pytest.approx((less.generations + 2, less.tokens + 60))


def test_a_stage_of_which_no_length_is_known_is_as_long_as_it_may_be() -> None:
    asked = replace(plan(BestOfN(1)), samplings={Stage.CAPTION: Sampling(max_tokens=7)})
    assert estimate(asked, {}).expected.tokens == 2 * 307
    assert estimate(asked, {**LENGTHS, Stage.SUMMARY: 1000.0}).expected.tokens == 2 * (100 + 7 + 50 + 30)


def test_the_same_again() -> None:
    assert estimate(plan(Swires()), LENGTHS) == estimate(plan(Swires()), LENGTHS)
