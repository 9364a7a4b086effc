from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from server.scorer.judge import MAX_TOKENS, Judge, comparison, verdict
from server.scorer.remote import connected
from server.settings import Sees
from swires.errors import ScorerError
from swires.stages import Stage
from swires.types import ROOT, Candidate, Trajectory
from tests.scorer.answers import PROBLEM, SUMMARY, captions, then
from tests.scorer.chat_judge import answers, longer, replying
from tests.scorer.loopback import Loopback, loopback, ok


@asynccontextmanager
async def judging(
    verdict: Callable[[str, str], str], sees: Sees = "answer"
) -> AsyncGenerator[tuple[Judge, Loopback], None]:
    async with (
        loopback(replying(verdict)) as server,
        connected("judge", f"{server.url}/v1", timeout_s=30) as remote,
    ):
        yield Judge(remote, "critic", sees), server


def never(first: str, second: str) -> str:
    raise AssertionError("asked")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Verdict: 1", "1"),
        ("Some reasons.\nverdict: 2.", "2"),
        ("**Verdict:** 2", "2"),
        ('"Verdict": "Tie"', "tie"),
        ("At first I thought Verdict: 1, but no.\n\nVerdict: 2", "2"),
        ("Verdict: 12", None),
        ("The first one is better.", None),
        ("", None),
    ],
)
def test_the_last_verdict_counts(reply: str, found: str | None) -> None:
    assert verdict(reply) == found


@pytest.mark.parametrize(
    ("texts", "scores", "matches"),
    [
        (("a", "bb"), (0, 1), 1),
        (("bb", "a"), (1, 0), 1),
        (("a", "bb", "ccc"), (0, 1, 2), 2),
        (("ccc", "bb", "a"), (2, 0, 1), 2),
        (("a", "bb", "ccc", "dddd"), (0, 1, 0, 2), 3),
        (("a", "eeeee", "bb", "dddd", "ccc"), (0, 3, 0, 1, 2), 4),
    ],
)
async def test_a_score_is_the_rounds_survived(texts: tuple[str, ...], scores: tuple[int, ...], matches: int) -> None:
    async with judging(longer) as (judge, server):
        found = await judge.score(PROBLEM, captions(*texts))
    assert found.values == scores
    assert (found.num_tokens, found.num_cached_tokens) == (0, 0)
    assert len(server.asked) == 2 * matches


async def test_both_orders_are_asked() -> None:
    async with judging(longer) as (judge, server):
        await judge.score(PROBLEM, captions("a", "bb"))
    one, other = (answers(asked.body) for asked in server.asked)
    assert one == other[::-1]
    assert set(one) == {"<CAPTION>a</CAPTION>", "<CAPTION>bb</CAPTION>"}


@pytest.mark.parametrize("reply", ["Verdict: 1", "Verdict: 2", "Verdict: tie", "I cannot tell."])
async def test_a_judge_who_says_the_same_of_both_orders_leaves_the_earlier_ahead(reply: str) -> None:
    async with judging(lambda first, second: reply) as (judge, _):
        assert (await judge.score(PROBLEM, captions("a", "bb", "ccc"))).values == (2, 0, 1)


async def test_one_readable_order_is_not_enough() -> None:
    async with judging(lambda first, second: "Verdict: 2" if "bb" in second else "Hm.") as (judge, _):
        assert (await judge.score(PROBLEM, captions("a", "bb"))).values == (1, 0)


async def test_a_reply_without_text_is_one_that_cannot_be_read() -> None:
    async with (
        loopback(lambda body: ok({"choices": [{"message": {"content": None}}]})) as server,
        connected("judge", server.url, timeout_s=30) as remote,
    ):
        assert (await Judge(remote, "critic").score(PROBLEM, captions("a", "bb"))).values == (1, 0)


async def test_what_reads_the_same_is_not_compared() -> None:
    async with judging(never) as (judge, server):
        assert (await judge.score(PROBLEM, captions("a", "a", "a"))).values == (0, 0, 0)
        assert (await judge.score(PROBLEM, captions("a"))).values == (0,)
    assert not server.asked
    async with judging(longer) as (judge, server):
        assert (await judge.score(PROBLEM, captions("a", "bb", "a", "bb"))).values == (0, 1, 0, 1)
    assert len(server.asked) == 2


async def test_what_is_sent() -> None:
    async with judging(longer) as (judge, server):
        await judge.score(PROBLEM, captions("a", "bb"))
    asked = server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert {key: value for key, value in asked.body.items() if key != "messages"} == {
        "model": "critic",
        "temperature": 0,
        "max_completion_tokens": MAX_TOKENS,
    }


def asked_text(one: Trajectory, other: Trajectory, sees: Sees = "answer") -> str:
    text: str = comparison(PROBLEM, one, other, sees)[-1]["text"]
    return text


def test_the_judge_sees_the_conversation_with_its_image() -> None:
    one, other = captions("a", "bb")
    parts = comparison(PROBLEM, one, other, "answer")
    assert parts[1] == {"type": "text", "text": "[user]"}
    assert parts[2:-1] == PROBLEM.messages[0]["content"]


def test_what_both_have_in_common_is_shown_once_or_not_at_all() -> None:
    one, other = captions("a", "bb")
    text = asked_text(one, other)
    assert f"<beginning>\n{SUMMARY.text}\n</beginning>" in text
    assert text.count(SUMMARY.text) == 1
    assert SUMMARY.text not in asked_text(one, other, sees="stage")


def test_answers_of_different_parents_are_shown_whole() -> None:
    one, other = (then(caption, Stage.REASONING, "1 + 1") for caption in captions("a", "bb"))
    text = asked_text(one, other)
    assert one.text in text
    assert other.text in text
    assert "<beginning>" not in text


def test_whole_answers_are_judged_by_their_conclusion() -> None:
    texts = ("<REASONING>r</REASONING><CONCLUSION>1</CONCLUSION>", "<CONCLUSION>2</CONCLUSION>")
    one, other = (ROOT.then(Candidate(0, Stage.CONCLUSION, text, (), "stop")) for text in texts)
    assert "The part to judge is the CONCLUSION" in asked_text(one, other)
    assert texts[0] in asked_text(one, other)
    assert "<REASONING>" not in asked_text(one, other, sees="stage")


def test_a_sentence_is_shown_after_the_ones_before() -> None:
    begun = ROOT.then(Candidate(0, Stage.CONCLUSION, "<SUMMARY>A plan.", (), "stop"))
    one, other = (begun.then(Candidate(1, Stage.CONCLUSION, text, (), "stop")) for text in (" Count.", " Guess."))
    for sees in ("answer", "stage"):
        text = asked_text(one, other, sees)
        assert "<beginning>\n<SUMMARY>A plan.\n</beginning>" in text
        assert "<answer_1>\n Count.\n</answer_1>" in text


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_is_judged_by_what_matters_in_it(stage: Stage) -> None:
    one, other = (then(ROOT, stage, text) for text in "ab")
    assert f"The part to judge is the {stage.name}" in asked_text(one, other)


async def test_a_judge_is_tried_before_it_is_relied_on() -> None:
    async with judging(longer) as (judge, server):
        await judge.check()
        assert answers(server.asked[0].body) == ("<CONCLUSION>1</CONCLUSION>", "<CONCLUSION>2</CONCLUSION>")
    async with judging(lambda first, second: "As a language model, ...") as (judge, _):
        with pytest.raises(ScorerError, match="ends with no verdict"):
            await judge.check()
