from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.training import tiny
from tests.training.chats import answer
from tests.training.data.records import record, staged, write
from training import records
from training.collate import IGNORED, Collator
from training.config import ConfigError, Data
from training.records import RecordCollator, Records, load_records

GOOD = staged()


@pytest.fixture(scope="module")
def collate() -> Collator:
    return Collator(tiny.FAMILIES["qwen3_vl"]()[1])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "dots").mkdir()
    Image.new("RGB", (80, 60), "red").save(tmp_path / "dots" / "a.png")
    (tmp_path / "dots" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def load(collate: Collator, folder: Path, lines: list[object], **fields: Any) -> Records:
    write(folder / "train.jsonl", lines)
    told = {"train": folder / "train.jsonl", "images": folder, "max_tokens": 400, **fields}
    return load_records(Data.model_validate(told), collate, seed=3, cache=folder / "cache")


def test_records_that_cannot_be_learned_from_are_left_out_and_counted(collate: Collator, images: Path) -> None:
    lines: list[object] = [
        record(GOOD, answer("3"), id="two turns"),
        b"no json",
        record("untagged"),
        record("untagged"),
        record(GOOD, image="dots/broken.png"),
        record(answer("3" * 1000)),
        record(answer("3 <|im_end|>")),
        record(GOOD, id="one turn"),
    ]
    found = load(collate, images, lines)
    assert found.train["id"] == ["two turns", "one turn"]
    assert found.evaluation is None
    assert str(found) == (
        "2 records to train on, 0 to evaluate with; left out: 2 untagged_turn, 1 not_json, 1 image_unreadable, "
        "1 longer than data.max_tokens, 1 with a special token of the model in a text"
    )


def test_lengths_are_those_of_the_batch(collate: Collator, images: Path) -> None:
    found = load(collate, images, [record(GOOD), record(GOOD, answer("3"))])
    batch = RecordCollator(collate, images)([found.train[0], found.train[1]])
    assert batch["attention_mask"].sum(dim=1).tolist() == found.train["length"]
    assert torch.equal(batch["labels"] != IGNORED, (batch["labels"] == batch["input_ids"]))


def test_records_are_looked_at_once(collate: Collator, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[object] = [record(GOOD, id=str(number)) for number in range(3)]
    first = load(collate, images, lines)
    (images / "train.jsonl").touch()
    write(images / "train.jsonl", [*lines, b"broken"])
    changed = load(collate, images, [*lines, b"broken"])
    assert (str(first), str(changed)) == (
        "3 records to train on, 0 to evaluate with; left out: none",
        "3 records to train on, 0 to evaluate with; left out: 1 not_json",
    )
    data = Data(train=(images / "train.jsonl",), images=images, max_tokens=400)
    monkeypatch.setattr(records, "read", None)
    again = load_records(data, collate, seed=3, cache=images / "cache")
    assert str(again) == str(changed)
    assert again.train.to_list() == changed.train.to_list()
    with pytest.raises(Exception, match="error occurred while generating"):  # with another limit they are read anew
        load_records(data.model_copy(update={"max_tokens": 300}), collate, seed=3, cache=images / "cache")


def test_a_share_is_held_out(collate: Collator, images: Path) -> None:
    lines: list[object] = [record(GOOD, id=str(number)) for number in range(10)]
    found, again = (load(collate, images, lines, evaluation_share=0.3) for _ in range(2))
    assert found.evaluation is not None
    assert again.evaluation is not None
    assert len(found.evaluation) == 3
    assert sorted([*found.train["id"], *found.evaluation["id"]]) == [str(number) for number in range(10)]
    assert found.evaluation["id"] == again.evaluation["id"]


def test_other_files_are_held_out(collate: Collator, images: Path) -> None:
    write(images / "held_out.jsonl", [record(GOOD, id="held out"), b"broken"])
    found = load(collate, images, [record(GOOD, id="trained")], evaluation=images / "held_out.jsonl")
    assert found.evaluation is not None
    assert (found.train["id"], found.evaluation["id"]) == (["trained"], ["held out"])
    assert found.left_out == {"not_json": 1}


@pytest.mark.parametrize(
    ("lines", "fields", "complaint"),
    [
        ([b"broken"], {}, "none can be trained on"),
        ([record(GOOD)] * 3, {"evaluation_share": 0.1}, r"data\.evaluation_share: 0\.1 of 3 records leaves none"),
        ([record(GOOD)], {"images": Path("nowhere")}, r"data\.images: nowhere is no folder"),
        ([record(GOOD)], {"train": Path("none.jsonl")}, r"data: none\.jsonl: No such file or directory"),
    ],
)
def test_what_cannot_be_trained_on_is_told(
    collate: Collator, images: Path, lines: list[object], fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(collate, images, lines, **fields)
