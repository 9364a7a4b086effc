"""Each policy against straight loops over the same scores, without an engine."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from swires.budget import Budget, Spend
from swires.choosing import best
from swires.errors import InvalidPlan
from swires.policies import POLICIES, BestOfN, Greedy, KnownPolicy, SentenceBeam, StageBeam, Swires
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, Outcome, Trajectory

SEEDS = range(200)
APART = tuple(policy(concludes_apart=True) for policy in (Greedy, BestOfN, SentenceBeam))
ANY = (*(policy() for policy in POLICIES.values()), *APART)


@dataclass
class Followed:
    """A policy followed to its end; the n-th generation is candidate n and has the n-th score."""

    policy: SearchPolicy
    scores: list[float]
    budget: Budget = field(default_factory=Budget)
    whole: frozenset[int] = frozenset()  # the sentences that end the answer
    expands: list[Expand] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spend = Spend(self.budget)
        flow = self.policy.flow(self.spend)
        expand = next(flow)
        try:
            while True:
                self.expands.append(expand)
                expand = flow.send(tuple(self._grown(expand)))
        except StopIteration as end:
            self.outcome: Outcome = end.value

    def _grown(self, expand: Expand) -> Iterator[Trajectory]:
        for parent in expand.parents:
            for _ in range(expand.samples):
                number = self.spend.generations
                self.spend.generations += 1
                text = f"{number}" if number in self.whole or not expand.stop else f"{number}."
                candidate = Candidate(number, expand.stage, text, (number,), "stop")
                yield parent.then(candidate, self.scores[number] if expand.scored else None)

    @property
    def answer(self) -> tuple[int, ...]:
        return self.outcome.answer.token_ids


def random_scores(seed: int) -> list[float]:
    """Coarse, so that equals occur."""
    chance = Random(seed)
    return [round(chance.gauss(0, 1), 1) for _ in range(300)]


def argsort(numbers: list[float]) -> list[int]:
    """Positions from the highest number to the lowest."""
    left, order = list(range(len(numbers))), []
    while left:
        highest = left[0]
        for position in left:
            if numbers[position] > numbers[highest]:
                highest = position
        order.append(highest)
        left.remove(highest)
    return order


def swires_by_the_book(policy: Swires, scores: list[float], max_generations: int) -> tuple[tuple[int, ...], bool, int]:
    """The answer, whether it was accepted, the retraces (LLaVA-CoT, inference/VLMEvalKit/swires.py)."""
    number = 1  # the summary was 0
    reasoning_pool: list[tuple[int, int]] = []
    reward_pool: list[float] = []
    backtrack_count = 0
    accepted = False
    while backtrack_count <= policy.max_retraces:
        captions = []
        caption_rewards = []
        for _ in range(policy.captions):
            captions.append(number)
            caption_rewards.append(scores[number])
            number += 1
        for place in argsort(caption_rewards)[: policy.keep_captions]:
            for _ in range(policy.reasonings):
                reasoning_pool.append((captions[place], number))
                reward_pool.append(scores[number])
                number += 1
        ranked = argsort(reward_pool)
        if reward_pool[ranked[policy.accept_rank - 1]] > policy.accept_z:
            accepted = True
            break
        round_cost = policy.captions + policy.keep_captions * policy.reasonings
        if number + round_cost + policy.keep_reasonings > max_generations:
            break
        backtrack_count += 1
    conclusions = []
    conclusion_rewards = []
    for place in argsort(reward_pool)[: policy.keep_reasonings]:
        conclusions.append((0, *reasoning_pool[place], number))
        conclusion_rewards.append(scores[number])
        number += 1
    return conclusions[argsort(conclusion_rewards)[0]], accepted, min(backtrack_count, policy.max_retraces)


def random_swires(chance: Random) -> Swires:
    captions, reasonings = chance.randint(1, 5), chance.randint(1, 3)
    keep_captions = chance.randint(1, captions)
    pool = keep_captions * reasonings
    return Swires(
        captions=captions,
        keep_captions=keep_captions,
        reasonings=reasonings,
        keep_reasonings=chance.randint(1, pool),
        max_retraces=chance.randint(0, 4),
        accept_rank=chance.randint(1, pool),
        accept_z=chance.choice([-1.0, 0.0, 0.2533, 1.0, 9.0]),
    )


@pytest.mark.parametrize("released", [True, False])
def test_swires(released: bool) -> None:
    for seed in SEEDS:
        chance, scores = Random(seed), random_scores(seed)
        policy = Swires() if released else random_swires(chance)
        budget = Budget(max_generations=chance.randint(policy.least_generations, 80))
        followed = Followed(policy, scores, budget)
        answer, accepted, retraces = swires_by_the_book(policy, scores, budget.max_generations)
        assert (followed.answer, followed.outcome.accepted) == (answer, accepted)
        stages = [expand.stage for expand in followed.expands]
        assert stages.count(Stage.CAPTION) == 1 + retraces
        assert followed.spend.generations <= budget.max_generations
        out_of_generations = not accepted and retraces < policy.max_retraces
        assert followed.outcome.stopped_by == ("generations" if out_of_generations else None)


def test_swires_schedule_of_the_released_implementation() -> None:
    """1 summary; 4 captions keep 2; 2 x 2 reasonings; top 3 to conclusions; at most 4 retraces."""
    accepted, never = Followed(Swires(), [1.0] * 50), Followed(Swires(), [0.2533] * 50)
    first = [
        (Stage.SUMMARY, 1, False),
        (Stage.CAPTION, 4, True),
        (Stage.REASONING, 4, True),
        (Stage.CONCLUSION, 3, True),
    ]
    assert [(each.stage, each.num_candidates, each.scored) for each in accepted.expands] == first
    assert accepted.spend.generations == 12
    assert [each.stage for each in never.expands] == [
        Stage.SUMMARY,
        *[Stage.CAPTION, Stage.REASONING] * 5,
        Stage.CONCLUSION,
    ]
    assert never.spend.generations == 44
    assert never.outcome.accepted is False


def test_swires_widens_its_retraces_where_told() -> None:
    released, wide = (Followed(Swires(max_retraces=1, widen=widen), [0.0] * 50) for widen in (1.0, 1.7))
    assert {each.widen for each in released.expands} == {1.0}
    assert [each.widen for each in wide.expands] == [1.0, 1.0, 1.0, 1.7, 1.7, 1.0]


def test_stage_beam() -> None:
    for seed in SEEDS:
        chance, scores = Random(seed), random_scores(seed)
        keep = chance.randint(1, 3)
        policy = StageBeam(candidates=keep * chance.randint(1, 3), keep=keep)
        kept: list[tuple[int, ...]] = [()]
        number = 0
        for _ in Stage:
            grown = []
            for beginning in kept:
                for _ in range(policy.candidates // len(kept)):
                    grown.append((*beginning, number))
                    number += 1
            order = argsort([scores[each[-1]] for each in grown])
            kept = [grown[place] for place in order[:keep]]
        assert Followed(policy, scores).answer == kept[0]


def test_stage_beam_with_a_width_for_each_stage() -> None:
    policy = StageBeam(candidates=4, keep=2, summaries=1, captions=8, conclusions=2)
    followed = Followed(policy, random_scores(0))
    assert [(len(each.parents), each.samples) for each in followed.expands] == [(1, 1), (1, 8), (2, 2), (2, 1)]
    assert (policy.width, policy.least_generations, followed.spend.generations) == (8, 15, 15)


def test_best_of_n() -> None:
    for seed in SEEDS:
        candidates, scores = Random(seed).randint(1, 8), random_scores(seed)
        assert Followed(BestOfN(candidates), scores).answer == (argsort(scores[:candidates])[0],)


def test_greedy() -> None:
    followed = Followed(Greedy(), [0.0])
    assert followed.expands == [Expand(Stage.CONCLUSION, (ROOT,), 1, scored=False, greedy=True)]
    assert followed.outcome == Outcome(followed.outcome.answer)


def test_greedy_that_concludes_apart() -> None:
    reasoned, concluded = Followed(Greedy(concludes_apart=True), [0.0]).expands
    assert reasoned == Expand(Stage.REASONING, (ROOT,), 1, scored=False, greedy=True)
    assert (concluded.stage, concluded.num_candidates, concluded.greedy) == (Stage.CONCLUSION, 1, True)


def test_best_of_n_that_concludes_apart() -> None:
    for seed in SEEDS:
        candidates, scores = Random(seed).randint(1, 8), random_scores(seed)
        followed = Followed(BestOfN(candidates, concludes_apart=True), scores)
        winner = argsort(scores[candidates : 2 * candidates])[0]
        assert followed.answer == (winner, candidates + winner)


def test_sentence_beam_that_concludes_apart() -> None:
    for seed in SEEDS:
        policy = SentenceBeam(candidates=Random(seed).randint(1, 5))
        budget = Budget(max_generations=Random(seed).randint(policy.least_generations, 60))
        whole = frozenset(Random(seed).sample(range(60), 10))
        together = Followed(policy, random_scores(seed), budget, whole)
        apart = Followed(replace(policy, concludes_apart=True), random_scores(seed), budget, whole)
        assert apart.outcome.stopped_by == together.outcome.stopped_by
        *sentences, concluded = apart.expands
        assert {(expand.stage, expand.stop) for expand in sentences} <= {(Stage.REASONING, (".",))}
        assert (concluded.stage, concluded.stop, concluded.num_candidates) == (Stage.CONCLUSION, (), 1)
        if together.outcome.stopped_by is None:
            assert apart.answer[:-1] == together.answer


def test_sentence_beam() -> None:
    for seed in SEEDS:
        chance, scores = Random(seed), random_scores(seed)
        policy = SentenceBeam(candidates=chance.randint(1, 5))
        budget = Budget(max_generations=chance.randint(policy.least_generations, 60))
        whole = frozenset(chance.sample(range(60), 10))
        answer: list[int] = []
        number = 0
        while not (answer and answer[-1] in whole):
            if number + policy.candidates + 1 > budget.max_generations:
                answer.append(number)
                break
            sentences = list(range(number, number + policy.candidates))
            number += policy.candidates
            answer.append(sentences[argsort([scores[sentence] for sentence in sentences])[0]])
        followed = Followed(policy, scores, budget, whole)
        assert followed.answer == tuple(answer)
        assert followed.outcome.stopped_by == (None if followed.expands[-1].stop else "generations")


def test_a_sentence_that_was_cut_off_does_not_end_the_answer() -> None:
    flow = SentenceBeam(candidates=1).flow(Spend(Budget()))
    next(flow)
    cut = ROOT.then(Candidate(0, Stage.CONCLUSION, "no end", (0,), "length"), float("-inf"))
    assert flow.send((cut,)).parents == (cut,)


@pytest.mark.parametrize("policy", ANY, ids=str)
def test_cost_and_width_are_kept(policy: KnownPolicy) -> None:
    for seed in SEEDS[:100]:
        policy = random_swires(Random(seed)) if policy.name == "swires" else policy
        followed = Followed(policy, random_scores(seed))
        assert policy.least_generations <= followed.spend.generations
        assert followed.spend.generations <= (policy.most_generations or followed.budget.max_generations)
        assert max(expand.num_candidates for expand in followed.expands) <= policy.width


@pytest.mark.parametrize("policy", ANY, ids=str)
def test_promises_are_kept(policy: KnownPolicy) -> None:
    """After a final expansion, everything descends from it."""
    for seed in SEEDS[:100]:
        policy = random_swires(Random(seed)) if policy.name == "swires" else policy
        followed = Followed(policy, random_scores(seed))
        promised, first = set[int](), 0
        for expand in followed.expands:
            assert not promised or all(promised & set(parent.token_ids) for parent in expand.parents)
            if expand.final:
                promised = set(range(first, first + expand.num_candidates))
            first += expand.num_candidates
        assert promised & set(followed.answer)


def test_best_is_stable_and_counts_no_score_as_zero() -> None:
    scores = [None, -1.0, 0.0, 2.0, None, 2.0, float("-inf")]
    trajectories = [
        ROOT.then(Candidate(number, Stage.CAPTION, "", (), "stop"), score) for number, score in enumerate(scores)
    ]
    assert [each.last.id for each in best(trajectories, 9)] == [3, 5, 0, 2, 4, 1, 6]
    assert [each.last.id for each in best(trajectories, 2)] == [3, 5]


@pytest.mark.parametrize(
    ("make", "numbers", "field"),
    [
        (BestOfN, {"candidates": 0}, "candidates"),
        (SentenceBeam, {"candidates": 0}, "candidates"),
        (StageBeam, {"candidates": 0}, "candidates"),
        (StageBeam, {"keep": 0}, "keep"),
        (StageBeam, {"candidates": 4, "keep": 5}, "keep"),
        (StageBeam, {"candidates": 4, "keep": 3}, "keep"),
        (StageBeam, {"summaries": 0}, "summaries"),
        (StageBeam, {"candidates": 4, "keep": 2, "captions": 1}, "captions"),
        (StageBeam, {"candidates": 4, "keep": 2, "reasonings": 3}, "reasonings"),
        (StageBeam, {"candidates": 4, "keep": 4, "summaries": 3}, "captions"),
        (Swires, {"captions": 0}, "captions"),
        (Swires, {"keep_captions": 5}, "keep_captions"),
        (Swires, {"reasonings": 0}, "reasonings"),
        (Swires, {"keep_reasonings": 5}, "keep_reasonings"),
        (Swires, {"max_retraces": -1}, "max_retraces"),
        (Swires, {"accept_rank": 0}, "accept_rank"),
        (Swires, {"accept_rank": 5}, "accept_rank"),
        (Swires, {"accept_z": float("nan")}, "accept_z"),
        (Swires, {"widen": 0.9}, "widen"),
        (Swires, {"widen": float("inf")}, "widen"),
    ],
)
def test_impossible_numbers_are_refused_by_name(
    make: type[SearchPolicy], numbers: dict[str, float], field: str
) -> None:
    with pytest.raises(InvalidPlan, match=field) as refused:
        make(**numbers)
    assert refused.value.field == field


def test_the_table_of_policies() -> None:
    assert set(POLICIES) == {"greedy", "best_of_n", "sentence_beam", "stage_beam", "swires", "adaptive"}
    assert all(POLICIES[name]().name == name for name in POLICIES)


STAGED = [name for name, policy in POLICIES.items() if policy.stages]


def firsts(policy: SearchPolicy) -> dict[Stage, Expand]:
    """The first expansion of each stage, of a search that is accepted at once."""
    expands = Followed(policy, [1.0] * 300).expands
    return {expand.stage: expand for expand in reversed(expands)}


@pytest.mark.parametrize("name", STAGED)
def test_what_a_policy_says_of_its_stages_is_what_it_does(name: str) -> None:
    policy = POLICIES[name]()
    asked = firsts(policy)
    assert {stage: expand.scored for stage, expand in asked.items()} == {
        stage: use.scored for stage, use in policy.stages.items()
    }
    for stage, use in policy.stages.items():
        if use.candidates:
            numbers: dict[str, Any] = {use.candidates: 8}
            assert firsts(replace(policy, **numbers))[stage].samples > asked[stage].samples


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_with_a_threshold_says_at_which_stage(name: str) -> None:
    uses = POLICIES[name].stages.values()
    assert POLICIES[name].thresholds is any(use.accept_z is not None for use in uses)
    assert all(hasattr(POLICIES[name](), use.accept_z) for use in uses if use.accept_z)
