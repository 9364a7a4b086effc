"""Records as a stream: files of any size are read line by line, whatever is in them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from datasets import IterableDataset
from tqdm import tqdm

from training.data.image import open_image
from training.data.record import Record, read_record
from training.data.rejection import Rejected

Row: TypeAlias = dict[str, Any]

AHEAD = 64
"""Lines whose pictures are decoded at the same time, or wait for it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, by its number from 1, and the record in it or why there is none; the `size` of its picture
    where that was looked at."""

    number: int
    text: bytes
    record: Record | Rejected
    size: tuple[int, int] | None = None


def stream(files: Sequence[Path]) -> IterableDataset:
    """Rows {"file", "line", "text"} of all lines that are not blank, each file a shard.

    Lines are handed on as bytes and not parsed by `datasets`, whose JSON reader ends with the first broken one.
    """
    return IterableDataset.from_generator(_rows, gen_kwargs={"files": [str(file) for file in files]})


def read(file: Path, images: Path | None = None) -> Iterator[Line]:
    """The lines of a file as records, their pictures looked at too where `images` is their folder. Shows a bar when
    it takes long."""
    with tqdm(total=file.stat().st_size, desc=file.name, unit="B", unit_scale=True, delay=2) as bar:
        rows = stream([file])
        for line in map(_line, rows) if images is None else _map_ahead(partial(_line_and_picture, images), rows):
            yield line
            bar.update(len(line.text))


def _rows(files: list[str]) -> Iterator[Row]:
    for file in files:
        with Path(file).open("rb") as lines:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    yield {"file": file, "line": number, "text": text}


def _line(row: Row) -> Line:
    try:
        return Line(row["line"], row["text"], read_record(row["text"]))
    except Rejected as rejected:
        return Line(row["line"], row["text"], rejected)


def _line_and_picture(images: Path, row: Row) -> Line:
    line = _line(row)
    try:
        if isinstance(line.record, Record):
            return replace(line, size=open_image(images, line.record.image).size)
    except Rejected as rejected:
        return replace(line, record=rejected)
    return line


def _map_ahead(function: Callable[[Row], Line], rows: Iterable[Row]) -> Iterator[Line]:
    """`map` on threads, in order; pillow decodes without the interpreter's lock."""
    with ThreadPoolExecutor(thread_name_prefix="decode-image") as pool:
        waiting = deque[Future[Line]]()
        for row in rows:
            waiting.append(pool.submit(function, row))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
