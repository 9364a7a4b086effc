import pytest

from swires.budget import Budget, Limit, Spend
from swires.limits import Allowance, allowance, limit_after, limit_before
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, FinishReason, Trajectory

MAX_TOKENS = dict.fromkeys(Stage, 100)


def grown(num_tokens: int, reason: FinishReason = "stop") -> Trajectory:
    text = f"{Stage.SUMMARY.closing}{Stage.CAPTION.closing}" if reason == "stop" else ""
    return ROOT.then(Candidate(0, Stage.CAPTION, text, tuple(range(num_tokens)), reason))


def spent(budget: Budget, *, generations: int = 0, tokens: int = 0, seconds: float = 0.0) -> Spend:
    times = iter([0.0])
    return Spend(budget, lambda: next(times, seconds), generations, tokens)


SUMMARIES = Expand(Stage.SUMMARY, (ROOT,), 4)
ANSWER = Expand(Stage.CONCLUSION, (ROOT,), 1, scored=False)
REASONED = ROOT.then(Candidate(0, Stage.REASONING, "".join(stage.closing for stage in tuple(Stage)[:-1]), (), "stop"))
CONCLUSION = Expand(Stage.CONCLUSION, (REASONED,), 1, scored=False)


def test_the_stages_limits_rule_while_there_is_plenty() -> None:
    assert allowance(SUMMARIES, MAX_TOKENS, spent(Budget())) == Allowance((100,), 90.0, None)


def test_tokens_left_are_shared() -> None:
    """80 of 480 left, 10 x 4 candidates to generate and as many to score; a conclusion may take what is kept."""
    spend = spent(Budget(max_total_tokens=480), tokens=300)
    assert allowance(SUMMARIES, MAX_TOKENS, spend) == Allowance((10,), 90.0, "tokens")
    assert allowance(CONCLUSION, MAX_TOKENS, spend) == Allowance((100,), 120.0, None)


def test_what_is_reserved_has_its_share_of_the_tokens() -> None:
    spend = Spend(Budget(max_total_tokens=120), lambda: 0.0, reserved=2)
    assert allowance(CONCLUSION, MAX_TOKENS, spend).max_tokens == (40,)


def test_no_more_is_kept_than_one_candidate_may_use() -> None:
    spend = spent(Budget(max_total_tokens=10_000), tokens=9_500)
    assert allowance(SUMMARIES, MAX_TOKENS, spend).max_tokens == (50,)


def test_an_answer_has_its_own_limit() -> None:
    expand = Expand(Stage.REASONING, (grown(30), grown(45), grown(70)), 2)
    allowed = allowance(expand, MAX_TOKENS, spent(Budget(max_answer_tokens=50)))
    assert allowed.max_tokens == (20, 5, 0)
    assert allowed.narrowed_by == "answer_tokens"


@pytest.mark.parametrize(
    ("expand", "most"),
    [
        (ANSWER, 400),
        (Expand(Stage.CAPTION, (ROOT,), 1), 200),
        (Expand(Stage.REASONING, (grown(5),), 1), 100),
        (Expand(Stage.CONCLUSION, (grown(5),), 1), 200),
        (Expand(Stage.CONCLUSION, (grown(5, "length"),), 1), 400),
        (Expand(Stage.CONCLUSION, (ROOT,), 1, stop=(".",)), 100),
    ],
)
def test_each_stage_that_a_candidate_spans_may_be_as_long_as_the_sampling_says(expand: Expand, most: int) -> None:
    assert allowance(expand, MAX_TOKENS, spent(Budget())).max_tokens == (most,)


def test_a_candidate_of_several_stages_may_have_what_they_may_have_together() -> None:
    each = {Stage.SUMMARY: 1, Stage.CAPTION: 20, Stage.REASONING: 300, Stage.CONCLUSION: 4000}
    assert allowance(ANSWER, each, spent(Budget())).max_tokens == (4321,)
    assert allowance(Expand(Stage.CONCLUSION, (grown(5),), 1), each, spent(Budget())).max_tokens == (4300,)
    assert allowance(SUMMARIES, each, spent(Budget())).max_tokens == (1,)


def test_narrowed_only_where_no_parent_has_all() -> None:
    expand = Expand(Stage.REASONING, (grown(30), grown(0)), 2)
    allowed = allowance(expand, MAX_TOKENS, spent(Budget(max_answer_tokens=100)))
    assert allowed == Allowance((70, 100), 90.0, None)


def test_sentences_are_no_conclusion() -> None:
    sentence = Expand(Stage.CONCLUSION, (ROOT,), 1, stop=(".",))
    assert allowance(sentence, MAX_TOKENS, spent(Budget(timeout_s=8.0))).deadline == 6.0
    assert allowance(CONCLUSION, MAX_TOKENS, spent(Budget(timeout_s=8.0))).deadline == 8.0


@pytest.mark.parametrize(
    ("spend", "limit"),
    [
        (spent(Budget(max_generations=8), generations=4), None),
        (spent(Budget(max_generations=8), generations=5), "generations"),
        (spent(Budget(timeout_s=8.0), seconds=5.9), None),
        (spent(Budget(timeout_s=8.0), seconds=6.0), "seconds"),
        (spent(Budget(max_total_tokens=100), tokens=67), None),
        (spent(Budget(max_total_tokens=100), tokens=68), "tokens"),
    ],
)
def test_what_forbids_an_expansion(spend: Spend, limit: Limit | None) -> None:
    assert limit_before(SUMMARIES, allowance(SUMMARIES, MAX_TOKENS, spend), spend) == limit


def test_an_answer_of_full_length_forbids_its_expansion() -> None:
    expand = Expand(Stage.REASONING, (grown(30), grown(31)), 1)
    for most, limit in ((31, None), (30, "answer_tokens")):
        spend = spent(Budget(max_answer_tokens=most))
        assert limit_before(expand, allowance(expand, MAX_TOKENS, spend), spend) == limit


@pytest.mark.parametrize(
    ("reasons", "limit"),
    [
        (("stop", "cut"), None),
        (("stop", "length"), None),
        (("cut", "length"), "seconds"),
        (("length", "length"), "tokens"),
    ],
)
def test_what_kept_all_candidates_from_being_finished(reasons: tuple[FinishReason, ...], limit: Limit | None) -> None:
    results = [grown(1, reason) for reason in reasons]
    assert limit_after(results, Allowance((5,), 1.0, "tokens")) == limit


def test_a_stage_that_is_too_long_by_itself_ends_nothing() -> None:
    assert limit_after([grown(1, "length")], Allowance((100,), 1.0, None)) is None
