"""Records in LLaVA-CoT's shape, read as turns: one question and its known answer each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE_MARKER = "<image>"


class MalformedRecord(Exception):
    """A line is no record; `reason` is the name that it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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
    """Its texts are without the marker of the picture, which LLaVA-CoT-100k does not have either."""

    fields: dict[str, Any]
    turns: tuple[Turn, ...]

    def with_texts(self, texts: dict[int, str]) -> dict[str, Any]:
        """The record with the annotated turns alone: the text of each by its index."""
        conversations = [
            {"from": speaker, "value": value}
            for turn in self.turns
            if turn.index in texts
            for speaker, value in (("human", turn.question), ("gpt", texts[turn.index]))
        ]
        return {**self.fields, "conversations": conversations}


def read_lines(file: Path) -> Iterator[tuple[int, Record | MalformedRecord]]:
    """The records of a file by their line numbers, from 1."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, read_record(line)
                except MalformedRecord as error:
                    yield number, error


def read_record(line: bytes) -> Record:
    """Raises MalformedRecord."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord("not_json", str(error)) from None
    if not isinstance(fields, dict) or not isinstance(fields.get("id"), str | int):
        raise MalformedRecord("malformed", "a record is an object with an id")
    if not isinstance(fields.get("image"), str):
        raise MalformedRecord("malformed", "image is the path of a picture")
    texts = _texts(fields.get("conversations"))
    pairs = tuple(zip(texts[::2], texts[1::2], strict=True))
    turns = (
        Turn(str(fields["id"]), index, fields["image"], question, answer, pairs[:index])
        for index, (question, answer) in enumerate(pairs)
    )
    return Record(fields, tuple(turns))


def _texts(conversations: object) -> list[str]:
    if not isinstance(conversations, list) or not conversations or len(conversations) % 2:
        raise MalformedRecord("malformed", "conversations are human and gpt turns in pairs")
    return [
        _text(said, "human" if index % 2 == 0 else "gpt", f"conversations[{index}]")
        for index, said in enumerate(conversations)
    ]


def _text(said: object, speaker: str, where: str) -> str:
    if not isinstance(said, dict) or said.get("from") != speaker or not isinstance(said.get("value"), str):
        raise MalformedRecord("malformed", f"{where} is not a text from {speaker}")
    text: str = said["value"].replace(IMAGE_MARKER, "").strip()
    if not text:
        raise MalformedRecord("malformed", f"{where} is empty")
    return text
