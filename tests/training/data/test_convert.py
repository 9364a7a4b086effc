import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.data.records import Command
from training.data.check import check
from training.data.convert import write_records
from training.data.image import open_image
from training.data.record import Record
from training.data.stream import read
from training.tasks import easy_vqa
from training.tasks.easy_vqa import easy_vqa_examples
from training.tasks.example import Example
from training.tasks.scenes import scenes


def test_scenes_come_back_as_they_were(tmp_path: Path, data: Command) -> None:
    data("convert", "scenes", "--out", tmp_path, "--count", 30, "--seed", 4)
    file = tmp_path / "scenes.jsonl"
    assert check(file, tmp_path).num_kept == 30
    assert_equal(tmp_path, file, list(itertools.islice(scenes(4), 30)))


def test_easy_vqa_comes_back_but_for_the_questions_without_stages(
    tmp_path: Path, data: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = easy_vqa_examples("train")[:300]
    monkeypatch.setattr(easy_vqa, "easy_vqa_examples", {"train": some}.__getitem__)
    data("convert", "easy-vqa", "--out", tmp_path)
    whole = [example for example in some if len(example.stages) == 4]
    report = check(tmp_path / "easy-vqa.jsonl", tmp_path)
    assert (report.num_kept, report.num_rejected) == (len(whole), 0)
    assert 0 < len(whole) < len(some)
    assert_equal(tmp_path, tmp_path / "easy-vqa.jsonl", whole)
    assert len(list((tmp_path / "easy-vqa").iterdir())) == len({example.image.tobytes() for example in whole})


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b", "b"):
        write_records("scenes", itertools.islice(scenes(1), 3), tmp_path / name)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert one == two
    assert len(one) == 4


def test_records_have_the_keys_of_the_data_set(tmp_path: Path) -> None:
    (line,) = write_records("scenes", itertools.islice(scenes(1), 1), tmp_path).read_text().splitlines()
    record = json.loads(line, object_hook=lambda fields: SimpleNamespace(**fields))
    assert set(vars(record)) == {"id", "image", "conversations"}
    assert [set(vars(said)) for said in record.conversations] == [{"from", "value"}] * 2


def assert_equal(images: Path, file: Path, examples: Sequence[Example]) -> None:
    for line, example in zip(read(file), examples, strict=True):
        assert isinstance(line.record, Record)
        (turn,) = line.record.turns
        assert (turn.question, turn.answer, turn.stages) == (example.question, example.text, example.stages)
        assert open_image(images, line.record.image).tobytes() == example.image.tobytes()
