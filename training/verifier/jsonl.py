"""Files of one JSON object on each line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from training.verifier.errors import BadFile

Row = TypeVar("Row", bound=BaseModel)


def read(path: Path, kind: type[Row]) -> Iterator[Row]:
    """Raises BadFile, naming the line."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield _row(line, kind, f"{path}, line {number}")
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error


def _row(line: bytes, kind: type[Row], where: str) -> Row:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise BadFile(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def write(path: Path, rows: Iterable[BaseModel]) -> None:
    path.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))


def mended(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file that a run appends to, none where there is no file yet; a last line that a kill has torn is
    cut off. Raises BadFile."""
    if not path.exists():
        return []
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return list(read(path, kind))
