"""What a search would cost, told before there is one."""

import math
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random
from statistics import fmean

from swires.budget import Spend
from swires.limits import Allowance, allowance, limit_after, limit_before, spanned
from swires.plan import SearchPlan
from swires.policies import SENTENCE_END
from swires.stages import Stage
from swires.types import Candidate, Expand, Trajectory

REHEARSALS = 200
SENTENCE_TOKENS = 20
"""How long a sentence is taken to be, where candidates end with it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """`tokens` as the budget is charged: those generated, and once more those that a scorer reads."""

    generations: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """`least` and `greatest` are bounds that hold for every search; `expected` is no more than its assumptions, one of
    which is the `lengths` of the stages in tokens."""

    least: Cost
    expected: Cost
    greatest: Cost
    lengths: Mapping[Stage, int]


def estimate(plan: SearchPlan, lengths: Mapping[Stage, float]) -> Estimate:
    """What `plan` would cost where stages have about `lengths` tokens; one that is not told is as long as it may be,
    within its share of the answer's limit.

    `expected` is the mean of rehearsals in which scores are drawn from the standard normal distribution, as those of a
    calibrated scorer are over many problems, and independently, as those of one problem are not: a hard one is retraced
    more often than told here, an easy one less. Every candidate is as long as its stage is expected to be, no two are
    alike, and whatever is scored counts as read, though some scorers read nothing.
    """
    share = plan.budget.max_answer_tokens // len(Stage)
    usual = {stage: _usual(lengths.get(stage, share), most) for stage, most in plan.max_tokens.items()}
    chance = Random(0)
    spends = [_rehearsed(plan, usual, chance) for _ in range(REHEARSALS)]
    least = plan.num_others + min(plan.policy.least_generations, *(spend.generations for spend in spends))
    expected = Cost(
        fmean(spend.generations for spend in spends) + plan.num_others,
        min(
            fmean(spend.num_tokens for spend in spends) + plan.num_others * usual[Stage.CONCLUSION],
            plan.budget.max_total_tokens,
        ),
    )
    greatest = _greatest(plan, scored=any(spend.num_read_tokens for spend in spends))
    return Estimate(Cost(least, least), expected, greatest, usual)


def _usual(length: float, most: int) -> int:
    return max(1, round(min(length, most)))


def _greatest(plan: SearchPlan, *, scored: bool) -> Cost:
    generations, budget = plan.most_generations, plan.budget
    each = min(budget.max_answer_tokens, sum(plan.max_tokens.values())) * (1 + scored)
    return Cost(generations, min(generations * each, budget.max_total_tokens))


def _rehearsed(plan: SearchPlan, usual: Mapping[Stage, int], chance: Random) -> Spend:
    """What the policy spends until its end or a limit, on candidates that are made up."""
    spend = Spend(plan.budget, lambda: 0.0, reserved=plan.num_others)
    with closing(plan.policy.flow(spend)) as flow, suppress(StopIteration):
        expand = next(flow)
        while True:
            allowed = allowance(expand, plan.max_tokens, spend)
            if limit_before(expand, allowed, spend):
                break
            grown = tuple(_grown(expand, allowed, usual, spend, chance))
            if limit_after(grown, allowed):
                break
            expand = flow.send(grown)
    return spend


def _grown(
    expand: Expand, allowed: Allowance, usual: Mapping[Stage, int], spend: Spend, chance: Random
) -> Iterator[Trajectory]:
    for parent, max_tokens in zip(expand.parents, allowed.max_tokens, strict=True):
        for _ in range(expand.samples):
            candidate = _made_up(expand, parent, usual, max_tokens, number=spend.generations)
            spend.generations += 1
            spend.num_generated_tokens += len(candidate.token_ids)
            whole = candidate.finish_reason == "stop"
            spend.num_read_tokens += len(candidate.token_ids) if expand.scored and whole else 0
            score = chance.gauss(0, 1) if whole else -math.inf
            yield parent.then(candidate, score if expand.scored else None)


def _made_up(
    expand: Expand, parent: Trajectory, usual: Mapping[Stage, int], max_tokens: int, *, number: int
) -> Candidate:
    """As long as what `parent` lacks through the stage, or as one sentence of it."""
    lacks = max(1, sum(usual[stage] for stage in Stage if stage <= expand.stage) - parent.num_tokens)
    is_sentence = bool(expand.stop) and lacks > SENTENCE_TOKENS
    text = (
        f"{number}{SENTENCE_END}"
        if is_sentence
        else "".join(_tagged(stage, number) for stage in spanned(expand, parent))
    )
    length = SENTENCE_TOKENS if is_sentence else lacks
    if length > max_tokens:
        return Candidate(number, expand.stage, str(number), (number,) * max_tokens, "length")
    return Candidate(number, expand.stage, text, (number,) * length, "stop")


def _tagged(stage: Stage, number: int) -> str:
    return f"{stage.opening}{number}{stage.closing}"
