"""Records in LLaVA-CoT's shape, read as turns: one question and its known answer each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.record import SPEAKERS, read_conversation
from training.data.rejection import Rejected


@dataclass(frozen=True, slots=True)
class Turn:
    """`earlier` are the questions and known answers before it in the conversation."""

    record: str
    index: int
    image: str
    question: str
    answer: str
    earlier: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    fields: Mapping[str, Any]
    turns: tuple[Turn, ...]

    def with_texts(self, texts: Mapping[int, str]) -> dict[str, Any]:
        """The record with the annotated turns alone: the text of each by its index."""
        conversations = [
            {"from": speaker, "value": value}
            for turn in self.turns
            if turn.index in texts
            for speaker, value in zip(SPEAKERS, (turn.question, texts[turn.index]), strict=True)
        ]
        return {**self.fields, "conversations": conversations}


def read_lines(file: Path) -> Iterator[tuple[int, Record | Rejected]]:
    """The records of a file by their line numbers, from 1."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, _record(line)
                except Rejected as rejected:
                    yield number, rejected


def _record(line: bytes) -> Record:
    read = read_conversation(line)
    turns = (
        Turn(read.id, index, read.image, question, answer, read.pairs[:index])
        for index, (question, answer) in enumerate(read.pairs)
    )
    return Record(read.fields, tuple(turns))
