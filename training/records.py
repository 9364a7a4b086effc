"""Records as a data set for the trainer: those fit to train on, with how long they are; the others counted."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, Features, List, Value
from torch import Tensor

from training.collate import Chat, Collator, Turn
from training.config import ConfigError, Data
from training.data.image import open_image
from training.data.record import Record
from training.data.rejection import Rejected
from training.data.stream import Line, read

TOO_LONG = "longer than data.max_tokens"
SPECIAL = "with a special token of the model in a text"

FEATURES = Features(
    {
        "id": Value("string"),
        "picture": Value("string"),
        "turns": List({"question": Value("string"), "answer": Value("string")}),
        "length": Value("int64"),
        "rejected": Value("string"),
    }
)


@dataclass(frozen=True, slots=True)
class Records:
    """`train` and `evaluation` have a row for each record; `left_out` counts the others of all files by reason."""

    train: Dataset
    evaluation: Dataset | None
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        kept = f"{len(self.train):,} records to train on, {len(self.evaluation or ()):,} to evaluate with"
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"{kept}; left out: {reasons or 'none'}"


def load_records(data: Data, collate: Collator, *, seed: int, cache: Path) -> Records:
    """Every record and picture is looked at once and kept in `cache`, so that neither a broken one ends a run in its
    middle nor one that goes on looks again. Raises ConfigError."""
    train, left_out = _load(data.train, data, collate, cache)
    evaluation = None
    if data.evaluation:
        evaluation, more = _load(data.evaluation, data, collate, cache)
        left_out += more
    elif data.evaluation_share:
        train, evaluation = _split(train, data.evaluation_share, seed)
    return Records(train, evaluation, dict(left_out.most_common()))


class RecordCollator:
    """Rows to a batch; their pictures are opened now."""

    def __init__(self, collate: Collator, images: Path) -> None:
        self.collate, self.images = collate, images

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Tensor]:
        return self.collate([Chat(open_image(self.images, row["picture"]), row["turns"]) for row in rows])


def _load(files: Sequence[Path], data: Data, collate: Collator, cache: Path) -> tuple[Dataset, Counter[str]]:
    if not data.images.is_dir():
        raise ConfigError(f"data.images: {data.images} is no folder")
    try:
        fingerprint = _fingerprint(files, data, collate)
    except OSError as error:
        raise ConfigError(f"data: {error.filename}: {error.strerror}") from error
    with PartialState().local_main_process_first():
        rows = Dataset.from_generator(
            _rows,
            FEATURES,
            str(cache),
            gen_kwargs={"files": files, "data": data, "collate": collate},
            fingerprint=fingerprint,
        )
    kept = [number for number, reason in enumerate(rows["rejected"]) if not reason]
    if not kept:
        raise ConfigError(f"data: of {len(rows):,} records in {files[0]} none can be trained on")
    return rows.select(kept).remove_columns("rejected"), Counter(filter(None, rows["rejected"]))


def _rows(files: Sequence[Path], data: Data, collate: Collator) -> Iterator[dict[str, Any]]:
    for file in files:
        for line in read(file, data.images):
            yield _row(line, data, collate)


def _row(line: Line, data: Data, collate: Collator) -> dict[str, Any]:
    if isinstance(line.record, Rejected):
        return _rejected(line.record.reason)
    assert line.size is not None
    turns = _turns(line.record)
    if collate.special_in(turns):
        return _rejected(SPECIAL)
    length = collate.length(turns, line.size)
    if length > data.max_tokens:
        return _rejected(TOO_LONG)
    return {"id": line.record.id, "picture": line.record.image, "turns": turns, "length": length, "rejected": ""}


def _rejected(reason: str) -> dict[str, Any]:
    return {"id": "", "picture": "", "turns": [], "length": 0, "rejected": reason}


def _turns(record: Record) -> list[Turn]:
    return [Turn(question=turn.question, answer=turn.answer) for turn in record.turns]


def _split(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    held_out = round(share * len(rows))
    if not 1 <= held_out < len(rows):
        raise ConfigError(f"data.evaluation_share: {share} of {len(rows):,} records leaves none on one side")
    numbers = random.Random(seed).sample(range(len(rows)), len(rows))
    return rows.select(sorted(numbers[held_out:])), rows.select(numbers[:held_out])


def _fingerprint(files: Sequence[Path], data: Data, collate: Collator) -> str:
    """Of all that the rows depend on, but for the pictures themselves."""
    stats = [(file, file.stat()) for file in files]
    facts = {
        "files": [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in stats],
        "images": str(data.images.resolve()),
        "max_tokens": data.max_tokens,
        "image_processor": repr(collate.processor.image_processor),
        "tokenizer": collate.tokenizer.backend_tokenizer.to_str(),
        "chat_template": collate.processor.chat_template,
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
