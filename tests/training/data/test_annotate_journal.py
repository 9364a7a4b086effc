import json
from pathlib import Path

import pytest

from training.data.annotation.call import Call, Reply
from training.data.annotation.errors import AnnotationError
from training.data.annotation.journal import Journal

CALLS = [Call("stages", "r", turn, 0, f"prompt {turn}", "a.png") for turn in range(3)]
REPLIES = [Reply(f"text \N{SNOWMAN} {turn}\n", "stop", None, turn, 1) for turn in range(3)]
ASKED = {"model": "teacher"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal(tmp_path / "journal.jsonl", ASKED) as journal:
        for call, reply in zip(CALLS, REPLIES, strict=True):
            assert journal.get(call) is None
            journal.add(call, reply)
            assert journal.get(call) == reply
    return tmp_path / "journal.jsonl"


def test_another_run_finds_what_one_has_kept(path: Path) -> None:
    with Journal(path, ASKED) as journal:
        assert [journal.get(call) for call in CALLS] == REPLIES


def test_a_line_is_on_the_disk_before_add_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", ASKED) as journal:
        journal.add(CALLS[0], REPLIES[0])
        assert json.loads((tmp_path / "journal.jsonl").read_text())["reply"]["text"] == REPLIES[0].text


def test_wherever_the_last_line_is_torn_the_others_stay(path: Path) -> None:
    whole = path.read_bytes()
    first_two = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(first_two, len(whole)):
        path.write_bytes(whole[:end])
        with Journal(path, ASKED) as journal:
            assert [journal.get(call) for call in CALLS] == [*REPLIES[:2], None]
        assert path.read_bytes() == whole[:first_two]


def test_what_is_written_after_a_torn_line_stands_on_its_own(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Journal(path, ASKED) as journal:
        journal.add(CALLS[2], REPLIES[2])
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line", ["{}", "no json", '{"key": 1, "reply": {"text": ""}}', '{"key": "a", "reply": {"b": 1}}']
)
def test_a_file_of_something_else_is_left_alone(path: Path, line: str) -> None:
    path.write_text(text := path.read_text() + line + "\n")
    with pytest.raises(AnnotationError, match="line 4, is not of this journal"), Journal(path, ASKED):
        pass
    assert path.read_text() == text


def test_answers_of_another_teacher_are_not_used(path: Path) -> None:
    with Journal(path, {"model": "other"}) as journal:
        assert [journal.get(call) for call in CALLS] == [None] * 3


def test_one_run_at_a_time(path: Path) -> None:
    with (
        Journal(path, ASKED),
        pytest.raises(AnnotationError, match="in use by another run"),
        Journal(path, ASKED),
    ):
        pass
    with Journal(path, ASKED):
        pass
