import pytest

from swires.stages import Stage
from training.data.annotation.call import Call, Reply
from training.data.annotation.turns import Turn
from training.data.annotation.verdict import Annotated, Refused, Verdict, annotate, judged, leaks, read_stages

TURN = Turn("7", 1, "a.png", "How many?", "2", earlier=(("What are they?", "circles"),))
GOOD = "<SUMMARY>s</SUMMARY>\n<CAPTION>c</CAPTION>\n<REASONING>r</REASONING>\n<CONCLUSION>{}</CONCLUSION>"


def play(*replies: Reply | str, attempts: int = 1) -> tuple[list[Call], Verdict]:
    """All that is asked, and the verdict, with these replies."""
    annotation, calls = annotate(TURN, attempts), []
    left = iter(replies)
    try:
        calls.append(next(annotation))
        while True:
            reply = next(left)
            calls.append(annotation.send(Reply(reply) if isinstance(reply, str) else reply))
    except StopIteration as end:
        verdict = end.value
    assert verdict is not None, "there is no reply for the last call"
    assert next(left, None) is None, "nothing asks for the last reply"
    return calls, verdict


def test_an_exact_conclusion_needs_no_judge() -> None:
    calls, verdict = play(GOOD.format(" 2. "))
    assert [call.purpose for call in calls] == ["stages"]
    assert verdict == Annotated(
        "<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>r</REASONING><CONCLUSION>2.</CONCLUSION>"
    )


def test_what_the_teacher_is_told() -> None:
    (call,), _ = play(GOOD.format("2"))
    assert call.image == "a.png"
    assert call.prompt.endswith("The question:\nHow many?\n\nThe known answer:\n2")
    assert "Question: What are they?\nAnswer: circles" in call.prompt
    places = [call.prompt.index(tag) for stage in Stage for tag in (stage.opening, stage.closing)]
    assert places == sorted(places)


def test_another_wording_is_judged_by_the_text_alone() -> None:
    calls, verdict = play(GOOD.format("two"), "Valid.")
    assert [call.purpose for call in calls] == ["stages", "judgement"]
    assert calls[1].image is None
    assert "The reference:\n2\n\nThe answer:\ntwo\n" in calls[1].prompt
    assert isinstance(verdict, Annotated)


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ((GOOD.format("3"), "invalid"), "wrong_answer"),
        ((GOOD.format("two"), "I would say valid, or else invalid."), "unjudged"),
        ((GOOD.format("two"), ""), "unjudged"),
        (("2",), "tags"),
        (("",), "tags"),
        (("I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but I can't help with that.",), "refused"),
        ((Reply("", refusal="I cannot."),), "refused"),
        ((Reply("", finish_reason="content_filter"),), "refused"),
        ((Reply(GOOD.format("2"), finish_reason="length"),), "cut"),
        ((GOOD.format("2").replace(">r<", ">It is 2, as in the standard answer.<"),), "leaked_answer"),
    ],
)
def test_what_is_refused(replies: tuple[Reply | str, ...], reason: str) -> None:
    _, verdict = play(*replies)
    assert isinstance(verdict, Refused)
    assert verdict.reason == reason


def test_a_second_attempt_mends_the_first() -> None:
    calls, verdict = play("2", GOOD.format("2"), attempts=2)
    assert isinstance(verdict, Annotated)
    assert len(set(calls)) == 2


def test_a_refusal_keeps_all_attempts() -> None:
    _, verdict = play("2", GOOD.format("3"), "invalid", attempts=2)
    assert isinstance(verdict, Refused)
    assert [(failure.reason, failure.text) for failure in verdict.failures] == [
        ("tags", "2"),
        ("wrong_answer", GOOD.format("3")),
    ]


def test_thoughts_of_the_teacher_are_none_of_its_words() -> None:
    thoughts = "<think>I was given the answer. <SUMMARY> comes first; valid?</think>\n"
    calls, verdict = play(thoughts + GOOD.format("two"), "<think>invalid? no</think> valid")
    assert len(calls) == 2
    assert isinstance(verdict, Annotated)
    assert "think" not in verdict.text


@pytest.mark.parametrize(
    "text",
    [
        "<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><CONCLUSION>2</CONCLUSION>",
        "<SUMMARY>s</SUMMARY><REASONING>r</REASONING><CAPTION>c</CAPTION><CONCLUSION>2</CONCLUSION>",
        GOOD.format("2").removesuffix("</CONCLUSION>"),
        GOOD.format(" "),
        GOOD.format("2") + " Done.",
        "Sure: " + GOOD.format("2"),
        GOOD.format("2").replace("\n<REASONING>", " then\n<REASONING>"),
        GOOD.format("2").replace(">r<", "><CAPTION>again</CAPTION><"),
        GOOD.format("2") + GOOD.format("2"),
    ],
)
def test_only_four_stages_in_order_are_stages(text: str) -> None:
    assert read_stages(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "as in the standard answer",
        "This agrees with the answer.",
        "The reference answer is 2.",
        "according to the answer",
        "the ground-truth answer",
        "Since I was told the correct answer, it is 2.",
        "I\N{RIGHT SINGLE QUOTATION MARK}ve been given the answer",
        "the answer provided above",
        "The given answer is B.",
        "which MATCHES THE SOLUTION",
    ],
)
def test_words_that_give_the_answer_away(text: str) -> None:
    assert leaks(text, TURN)


@pytest.mark.parametrize(
    "text",
    [
        "From the given answer choices, B fits.",
        "Among the provided answer options only one is left.",
        "So the correct answer is B.",
        "We choose B as the answer.",
        "This gives the answer.",
        "Given the picture, the answer is 2.",
        "It is known that circles are round.",
    ],
)
def test_words_that_do_not(text: str) -> None:
    assert not leaks(text, TURN)


def test_words_of_the_question_are_free() -> None:
    asked = Turn("1", 0, "a.png", "What does the answer key on the wall say?", "B")
    assert not leaks("The answer key shows B.", asked)
    assert leaks("The answer key shows B, as in the standard answer.", asked)


def test_a_judgement_is_one_word() -> None:
    assert judged("VALID") is None
    assert judged("It is invalid.") == "wrong_answer"
    assert judged("validated") == "unjudged"
