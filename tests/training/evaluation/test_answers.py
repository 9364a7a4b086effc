from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.answers import Answer, Arm, BadRecord, Record

ANSWER = Answer("greedy", 0, 0, "3", " 3\n", 10, 0, 1, 0, 0.1)


def test_an_arm_is_a_policy_with_fields_of_the_request() -> None:
    assert Arm.parse("greedy") == Arm("greedy", {"policy": "greedy"})
    assert Arm.parse("swires:max_retraces=0,accept_z=0.5,scorer=likelihood").swires == {
        "policy": "swires",
        "max_retraces": 0,
        "accept_z": 0.5,
        "scorer": "likelihood",
    }
    assert Arm.parse("stage_beam:keep=2,stages.CAPTION.candidates=8,stages.CAPTION.temperature=1.0").swires == {
        "policy": "stage_beam",
        "keep": 2,
        "stages": {"CAPTION": {"candidates": 8, "temperature": 1.0}},
    }


def test_white_space_and_case_do_not_make_an_answer_wrong() -> None:
    assert ANSWER.right
    assert replace(ANSWER, expected="yes", content="Yes").right
    assert not replace(ANSWER, content="4").right


def test_a_record_keeps_what_was_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(path)
    for repeat in range(3):
        record.add(replace(ANSWER, repeat=repeat))
    path.write_bytes(path.read_bytes()[:-20])  # a kill has torn the last line
    again = Record(path)
    assert [one.repeat for one in again.answers] == [0, 1]
    again.add(replace(ANSWER, repeat=2))
    assert [one.repeat for one in Record(path).answers] == [0, 1, 2]


def test_a_file_that_is_no_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text('{"arm": "greedy"}\n')
    with pytest.raises(BadRecord, match=r"record, line 1: .*--record"):
        Record(path)
