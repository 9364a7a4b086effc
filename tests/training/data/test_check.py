import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.data.records import Command, record, staged, write
from training.data.check import check
from training.data.rejection import Reason

ROOT = Path(__file__).parents[3]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    lines = [
        record(),
        record(staged(), "Two.", "Three."),
        b"not json",
        record(staged(), staged()),
        record("Two.", image="../a.png"),
        record(image="dots/b.png"),
        record(image="../a.png"),
        b"",
    ]
    return write(tmp_path / "mixed.jsonl", lines)


def test_a_record_counts_once_under_its_first_reason(mixed: Path, images: Path) -> None:
    report = check(mixed, images)
    assert (report.num_records, report.num_kept) == (7, 2)
    assert report.rejected == {
        Reason.UNTAGGED_TURN: 2,
        Reason.NOT_JSON: 1,
        Reason.IMAGE_MISSING: 1,
        Reason.IMAGE_OUTSIDE_FOLDER: 1,
    }
    assert next(iter(report.rejected)) == Reason.UNTAGGED_TURN
    assert report.first[Reason.UNTAGGED_TURN] == "line 2: turn 2: there are no tags"


def test_the_report_for_readers(mixed: Path, images: Path, data: Command, capsys: pytest.CaptureFixture[str]) -> None:
    data("check", mixed, "--images", images)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "7 records: 2 kept, 5 rejected"
    assert out[1].split(maxsplit=2) == ["2", "untagged_turn", "first: line 2: turn 2: there are no tags"]
    assert len(out) == 5


def test_the_report_for_programs_and_strict(
    mixed: Path, images: Path, data: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        data("check", mixed, "--images", images, "--json", "--strict")
    assert raised.value.code == 1
    rejected = {"untagged_turn": 2, "not_json": 1, "image_missing": 1, "image_outside_folder": 1}
    assert json.loads(capsys.readouterr().out) == {"records": 7, "kept": 2, "rejected": rejected}


def test_strict_is_content_with_a_good_file(
    tmp_path: Path, images: Path, data: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    data("check", write(tmp_path / "good.jsonl", [record()]), "--images", images, "--json", "--strict")
    assert json.loads(capsys.readouterr().out) == {"records": 1, "kept": 1, "rejected": {}}


@pytest.mark.parametrize(("file", "folder"), [("none.jsonl", "images"), ("images", "images"), ("mixed.jsonl", "none")])
def test_what_cannot_be_read_is_told_in_one_line(
    mixed: Path, images: Path, data: Command, capsys: pytest.CaptureFixture[str], file: str, folder: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        data("check", mixed.parent / file, "--images", mixed.parent / folder)
    assert raised.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("data: ")


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    heavy = {"datasets", "torch", "transformers", "PIL", "tqdm", "httpx", "numpy"}
    code = f"import sys, training.__main__; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
