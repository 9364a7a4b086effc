"""The adaptive policy against a straight loop over the same scores, and what it is for."""

from dataclasses import replace
from random import Random

import pytest

from swires.adaptive import FRESH, PATIENCE, Adaptive
from swires.budget import Budget, Spend
from swires.errors import InvalidPlan
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, Trajectory
from tests.swires.test_policies import SEEDS, Followed, random_scores


def adaptive_by_hand(policy: Adaptive, scores: list[float], max_generations: int) -> tuple[tuple[int, ...], bool]:
    number = 1  # the summary was 0
    captions: dict[int, float] = {}
    pool: list[tuple[int, int]] = []
    accepted = False
    samples = 1
    for attempt in range(1 + policy.max_retraces):
        if attempt and number + 2 * samples + 1 > max_generations:
            break
        if not captions or max(captions.values()) < FRESH:
            for _ in range(samples):
                captions[number] = scores[number]
                number += 1
        chosen = next(caption for caption in captions if captions[caption] == max(captions.values()))
        for _ in range(samples):
            pool.append((chosen, number))
            captions[chosen] -= PATIENCE
            number += 1
        if max(scores[reasoning] for _, reasoning in pool) > policy.accept_z:
            accepted = True
            break
        samples = min(2 * samples, policy.candidates)
    best = max(scores[reasoning] for _, reasoning in pool)
    caption, reasoning = next(pair for pair in pool if scores[pair[1]] == best)
    return (0, caption, reasoning, number), accepted


def test_adaptive() -> None:
    for seed in SEEDS:
        chance, scores = Random(seed), random_scores(seed)
        policy = Adaptive(
            candidates=chance.randint(1, 8),
            max_retraces=chance.randint(0, 8),
            accept_z=chance.choice([0.0, 0.25, 1, 9]),
        )
        budget = Budget(max_generations=chance.randint(4, 80))
        followed = Followed(policy, scores, budget)
        assert (followed.answer, followed.outcome.accepted) == adaptive_by_hand(policy, scores, budget.max_generations)
        assert followed.spend.generations <= budget.max_generations


def stages(scores: list[float]) -> list[tuple[str, int]]:
    return [(expand.stage.name, expand.num_candidates) for expand in Followed(Adaptive(), scores).expands]


def test_a_good_first_answer_costs_no_more_than_itself() -> None:
    assert stages([0.0, 0.0, 1.0, 0.0]) == [("SUMMARY", 1), ("CAPTION", 1), ("REASONING", 1), ("CONCLUSION", 1)]


def test_a_good_caption_is_reasoned_from_again() -> None:
    assert stages([0.0, 1.0, -1.0, 1.0, -1.0, 0.0])[2:] == [("REASONING", 1), ("REASONING", 2), ("CONCLUSION", 1)]


def test_a_bad_caption_is_to_blame() -> None:
    found = stages([0.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0])
    assert found[2:] == [("REASONING", 1), ("CAPTION", 2), ("REASONING", 2), ("CONCLUSION", 1)]


def test_captions_that_read_the_same_are_one() -> None:
    flow = Adaptive(candidates=2, max_retraces=2).flow(Spend(Budget()))
    next(flow)
    number = iter(range(99))

    def grown(expand: Expand, text: str, score: float) -> tuple[Trajectory, ...]:
        return tuple(
            parent.then(Candidate(next(number), expand.stage, text, (), "stop"), score)
            for parent in expand.parents
            for _ in range(expand.samples)
        )

    expand = flow.send(grown(Expand(Stage.SUMMARY, (ROOT,), 1), "s", 0.0))
    expand = flow.send(grown(expand, "same", FRESH))  # as good as a fresh one
    expand = flow.send(grown(expand, "wrong", -1.0))
    assert (expand.stage, expand.samples) == (Stage.CAPTION, 2)
    captions = grown(expand, "same", FRESH)
    summary = Trajectory(captions[1].candidates[:1], captions[1].scores[:1])
    expand = flow.send((captions[0], summary.then(replace(captions[1].last, text="other"), FRESH)))
    assert [parent.last.text for parent in expand.parents] == ["other"]


def test_it_gives_up_after_its_retraces_with_the_best_it_has() -> None:
    followed = Followed(Adaptive(max_retraces=2), [0.0, 1.0, -1.0, -3.0, -0.5, *[-1.0] * 9])
    assert followed.outcome.accepted is False
    assert followed.answer[2] == 4
    reasonings = [expand for expand in followed.expands if expand.stage is Stage.REASONING]
    assert [(expand.samples, expand.widen) for expand in reasonings] == [(1, 1.0), (2, 1.7), (4, 1.7)]


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ({"candidates": 0}, "candidates"),
        ({"max_retraces": -1}, "max_retraces"),
        ({"accept_z": float("nan")}, "accept_z"),
        ({"widen": 0.5}, "widen"),
    ],
)
def test_impossible_numbers_are_refused_by_name(numbers: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidPlan, match=field) as refused:
        Adaptive(**numbers)  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("candidates", range(1, 10))
@pytest.mark.parametrize("max_retraces", range(6))
def test_how_much_it_may_sample(candidates: int, max_retraces: int) -> None:
    widths = [min(candidates, 2**retraces) for retraces in range(1 + max_retraces)]
    policy = Adaptive(candidates, max_retraces)
    assert (policy.width, policy.most_generations) == (max(widths), 2 + 2 * sum(widths))


def test_however_many_retraces_are_asked_for_they_cost_nothing_before_they_are_made() -> None:
    policy = Adaptive(candidates=5, max_retraces=2**62)
    assert policy.width == 5
    assert policy.most_generations == 2 * (2**3 + (2**62 - 2) * 5)
