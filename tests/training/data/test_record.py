from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.data.records import TEXTS, encoded, record, staged
from training.data.record import Record, Turn, read_record
from training.data.rejection import Reason, Rejected


def rejected(value: object) -> Rejected:
    with pytest.raises(Rejected) as raised:
        read_record(encoded(value))
    return raised.value


def test_a_record_of_several_turns() -> None:
    fields = record(staged(), staged(between=""), hints=["a", "b"], id=7)
    fields["conversations"][0]["value"] = "<image>\nHow many?"
    turns = tuple(Turn("How many?", staged(between=between), TEXTS) for between in ("\n\n", ""))
    assert read_record(b"\xef\xbb\xbf" + encoded(fields) + b"\r\n") == Record("7", "dots/a.png", turns)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in record().items() if name != key}


HUMAN, GPT = record()["conversations"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", Reason.NOT_JSON),
        (b'{"id": "\xff"}', Reason.NOT_JSON),
        (b"[" * 200_000, Reason.NOT_JSON),
        (b"9" * 5000, Reason.NOT_JSON),
        ([], Reason.WRONG_TYPE),
        (None, Reason.WRONG_TYPE),
        (without("id"), Reason.MISSING_KEY),
        (without("image"), Reason.MISSING_KEY),
        (without("conversations"), Reason.MISSING_KEY),
        (record(id=None), Reason.WRONG_TYPE),
        (record(id=True), Reason.WRONG_TYPE),
        (record(image=["a.png"]), Reason.WRONG_TYPE),
        (record(image="\ud800.png"), Reason.BROKEN_UNICODE),
        (record(id="\udfff"), Reason.BROKEN_UNICODE),
        (record(conversations={}), Reason.WRONG_TYPE),
        (record(conversations=[]), Reason.NO_TURNS),
        (record(conversations=["How many?", "2"]), Reason.WRONG_TYPE),
        (record(conversations=[HUMAN, {"from": "gpt"}]), Reason.MISSING_KEY),
        (record(conversations=[HUMAN, {"value": "2"}]), Reason.MISSING_KEY),
        (record(conversations=[HUMAN, {"from": "gpt", "value": 2}]), Reason.WRONG_TYPE),
        (record(conversations=[HUMAN, {"from": "gpt", "value": "\ud83d"}]), Reason.BROKEN_UNICODE),
        (record(conversations=[HUMAN, {"from": "gpt", "value": "<image>"}]), Reason.EMPTY_TURN),
        (record(conversations=[GPT, HUMAN]), Reason.TURNS_NOT_ALTERNATING),
        (record(conversations=[HUMAN, HUMAN]), Reason.TURNS_NOT_ALTERNATING),
        (record(conversations=[HUMAN, GPT, HUMAN]), Reason.TURNS_NOT_ALTERNATING),
        (record(conversations=[HUMAN, {**GPT, "from": "system"}]), Reason.TURNS_NOT_ALTERNATING),
    ],
)
def test_what_is_no_record_is_rejected_by_its_defect(value: object, reason: Reason) -> None:
    assert rejected(value).reason == reason


def test_the_untagged_turn_that_a_failed_one_leaves_behind_rejects_the_record() -> None:
    why = rejected(record(staged(), "Two.", staged(between="x")))
    assert (why.reason, str(why)) == (Reason.UNTAGGED_TURN, "turn 2: there are no tags")


def test_details_are_one_short_line() -> None:
    assert str(Rejected(Reason.IMAGE_MISSING, "a\nb\x1b[31m\ud800.png")) == "a\ufffdb\ufffd[31m\ufffd.png"
    assert len(str(Rejected(Reason.IMAGE_MISSING, "x" * 10_000))) == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(staged()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("id", "image", "conversations", "from", "value")), inner)
    ),
    max_leaves=10,
)


@given(json_values.map(encoded) | st.binary(), st.integers(0, 40))
def test_no_line_is_more_than_rejected(line: bytes, cut: int) -> None:
    for text in (line, line[cut:], line[:cut]):
        with suppress(Rejected):
            assert read_record(text).turns
