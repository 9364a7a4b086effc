"""Records as a stream: files of any size are read line by line, whatever is in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import IterableDataset
from tqdm import tqdm

from training.data.image import open_image
from training.data.record import Record, read_record
from training.data.rejection import Rejected


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, by its number from 1, and the record in it or why there is none."""

    number: int
    text: bytes
    record: Record | Rejected


def stream(files: Sequence[Path]) -> IterableDataset:
    """Rows {"file", "line", "text"} of all lines that are not blank, each file a shard.

    Lines are handed on as bytes and not parsed by `datasets`, whose JSON reader ends at the first broken line and at
    the first record of another shape.
    """
    return IterableDataset.from_generator(_rows, gen_kwargs={"files": [str(file) for file in files]})


def read(file: Path, images: Path | None = None) -> Iterator[Line]:
    """The lines of a file as records, their pictures looked at too where `images` is their folder. Shows a bar when
    it takes long."""
    with tqdm(total=file.stat().st_size, desc=file.name, unit="B", unit_scale=True, delay=2) as bar:
        for row in stream([file]):
            yield Line(row["line"], row["text"], _read(row["text"], images))
            bar.update(len(row["text"]))


def _rows(files: list[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        with Path(file).open("rb") as lines:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    yield {"file": file, "line": number, "text": text}


def _read(text: bytes, images: Path | None) -> Record | Rejected:
    try:
        record = read_record(text)
        if images is not None:
            open_image(images, record.image)
    except Rejected as rejected:
        return rejected
    return record
