import pytest
from hypothesis import given
from hypothesis import strategies as st

from swires.parser import Section, parse
from swires.stages import TAGS, Stage
from tests.training.data.records import TEXTS, staged
from training.data.answer import read_answer
from training.data.rejection import Reason, Rejected

GOOD = staged()


@pytest.mark.parametrize("text", [GOOD, staged(between=""), f"\n{GOOD} ", GOOD.replace("Two dots.", "1 < 2 <b>\n</p>")])
def test_good_answers_are_read_as_serving_parses_them(text: str) -> None:
    assert tuple(Section(*stage) for stage in read_answer(text).items()) == parse(text)


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("Two.", Reason.UNTAGGED_TURN, "no tags"),
        (GOOD.lower(), Reason.UNTAGGED_TURN, "no tags"),
        (GOOD.removesuffix("</CONCLUSION>"), Reason.STAGE_NOT_CLOSED, "after <CONCLUSION> comes nothing"),
        (GOOD.replace("</SUMMARY>", ""), Reason.STAGE_NOT_CLOSED, "after <SUMMARY> comes <CAPTION>"),
        (GOOD.replace("</SUMMARY>", "</CAPTION>"), Reason.STAGE_NOT_CLOSED, "after <SUMMARY> comes </CAPTION>"),
        (GOOD.replace("Two", "<SUMMARY>Two</SUMMARY>"), Reason.STAGE_NOT_CLOSED, "after <CAPTION> comes <SUMMARY>"),
        (GOOD.replace("<CAPTION>", ""), Reason.STRAY_CLOSING_TAG, "</CAPTION>"),
        (GOOD + "</CONCLUSION>", Reason.STRAY_CLOSING_TAG, "</CONCLUSION>"),
        (GOOD + GOOD, Reason.STAGE_REPEATED, "SUMMARY is there 2 times"),
        (staged({Stage.CONCLUSION: "2"}), Reason.STAGE_MISSING, "SUMMARY"),
        (staged({stage: TEXTS[stage] for stage in reversed(Stage)}), Reason.STAGES_OUT_OF_ORDER, "CONCLUSION, REASON"),
        ("Sure! " + GOOD, Reason.TEXT_OUTSIDE_STAGES, "'Sure!'"),
        (staged(between=" and "), Reason.TEXT_OUTSIDE_STAGES, "and"),
        (staged({**TEXTS, Stage.CAPTION: " \n"}), Reason.STAGE_EMPTY, "CAPTION"),
    ],
)
def test_other_answers_are_rejected_by_their_defect(text: str, reason: Reason, detail: str) -> None:
    with pytest.raises(Rejected) as raised:
        read_answer(text)
    assert raised.value.reason == reason
    assert detail in str(raised.value)


@given(st.lists(st.sampled_from([*TAGS, " ", "text"]), max_size=12).map("".join))
def test_whatever_is_kept_is_what_serving_parses(text: str) -> None:
    try:
        stages = read_answer(text)
    except Rejected:
        return
    assert tuple(Section(*stage) for stage in stages.items()) == parse(text)


@given(st.permutations(TAGS))
def test_tags_in_any_other_order_are_rejected(tags: list[str]) -> None:
    if tuple(tags) != TAGS:
        with pytest.raises(Rejected):
            read_answer("text".join(tags))
