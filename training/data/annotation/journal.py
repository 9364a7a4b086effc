"""The calls that are finished, on disk before anything is made of them: what is here is not paid again."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from training.data.annotation.call import Call, Reply
from training.data.annotation.errors import AnnotationError
from training.data.annotation.usage import Usage
from training.data.annotation.verdict import Annotation, Verdict


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verdict, or the call that it waits for; and what the calls before have cost."""

    state: Call | Verdict
    usage: Usage


class Journal:
    """An append-only file, a line for each finished call, held by one run at a time.

    `asked` is what all calls of the run have in common: answers to anything else stay in the file, unused. A last line
    that was torn by a kill is dropped on opening. The memory holds where the lines are, not what is in them.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path = path
        self._asked = dict(asked)
        self._places: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise AnnotationError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            self._lock()
            self._mend()
            self._places = {line["key"]: place for place, line in self._lines()}
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, call: Call) -> Reply | None:
        place = self._places.get(self._key(call))
        if place is None:
            return None
        self._file.seek(place)
        return Reply(**json.loads(self._file.readline())["reply"])

    def replay(self, annotation: Annotation) -> Replayed:
        """How far the finished calls bring an annotation."""
        usage = Usage()
        try:
            call = next(annotation)
            while reply := self.get(call):
                usage += Usage.of(reply)
                call = annotation.send(reply)
        except StopIteration as end:
            return Replayed(end.value, usage)
        return Replayed(call, usage)

    def add(self, call: Call, reply: Reply) -> None:
        """Returns when the line is on the disk."""
        key = self._key(call)
        about = {"record": call.record, "turn": call.turn, "attempt": call.attempt, "purpose": call.purpose}
        line = json.dumps({"key": key, **about, "reply": asdict(reply)})
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._places[key] = place

    def _key(self, call: Call) -> str:
        return hashlib.sha256(json.dumps([self._asked, asdict(call)]).encode()).hexdigest()[:32]

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnnotationError(f"{self.path} is in use by another run") from None

    def _mend(self) -> None:
        """Ends the file at the end of its last whole line."""
        end = size = self._file.seek(0, os.SEEK_END)
        while end and self._byte_before(end) != b"\n":
            end -= 1
        if end != size:
            self._file.truncate(end)

    def _byte_before(self, place: int) -> bytes:
        self._file.seek(place - 1)
        return self._file.read(1)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        self._file.seek(0)
        place = 0
        for number, line in enumerate(self._file, start=1):
            try:
                entry = json.loads(line)
                Reply(**entry["reply"])
                key_is_text = isinstance(entry["key"], str)
            except (ValueError, TypeError, KeyError):
                key_is_text = False
            if not key_is_text:
                raise AnnotationError(f"{self.path}, line {number}, is not of this journal")
            yield place, entry
            place += len(line)
