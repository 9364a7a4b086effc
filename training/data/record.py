"""Records in LLaVA-CoT-100k's shape: a picture, and turns of a question and its answer in four stages.

A line is `{"id", "image": path in the folder of images, "conversations": [{"from": "human" | "gpt", "value"}, ...]}`;
other keys are left alone. Its generation dropped a turn whose annotation had failed and then passed over the one after
it, whose plain answer stayed: such an untagged turn is a defect like any other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swires.stages import Stage
from training.data.answer import read_answer
from training.data.rejection import Reason, Rejected

IMAGE_MARKER = "<image>"
SPEAKERS = ("human", "gpt")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A record whose answers may be in stages or plain. `pairs` are its questions and answers, `fields` all that its
    line holds."""

    id: str
    image: str
    pairs: tuple[tuple[str, str], ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """`answer` is the tagged text that is trained, `stages` what is in it."""

    question: str
    answer: str
    stages: Mapping[Stage, str]


@dataclass(frozen=True, slots=True)
class Record:
    """Its texts are without LLaVA's marker of the picture, which goes with the first question, and without the white
    space around them."""

    id: str
    image: str
    turns: tuple[Turn, ...]


def read_record(line: bytes) -> Record:
    """Raises Rejected."""
    read = read_conversation(line)
    return Record(read.id, read.image, tuple(_turn(number, *pair) for number, pair in enumerate(read.pairs, 1)))


def read_conversation(line: bytes) -> Conversation:
    """Its texts are those of a Record. Raises Rejected."""
    fields = _object(line)
    number = _get(fields, "id", "the record")
    if not isinstance(number, str | int) or isinstance(number, bool):
        raise Rejected(Reason.WRONG_TYPE, "id is neither a text nor a number")
    image = _text(fields, "image", "the record")
    said = _get(fields, "conversations", "the record")
    if not isinstance(said, list):
        raise Rejected(Reason.WRONG_TYPE, "conversations is not a list")
    return Conversation(_whole(str(number), "id"), image, _pairs(said), fields)


def _object(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.NOT_JSON, str(error)) from error


def _pairs(said: list[object]) -> tuple[tuple[str, str], ...]:
    if not said:
        raise Rejected(Reason.NO_TURNS, "conversations is empty")
    texts = [_spoken(one, SPEAKERS[number % 2], f"conversations[{number}]") for number, one in enumerate(said)]
    if len(texts) % 2:
        raise Rejected(Reason.TURNS_NOT_ALTERNATING, "the last question has no answer")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _spoken(said: object, speaker: str, where: str) -> str:
    found = _text(said, "from", where)
    if found != speaker:
        raise Rejected(Reason.TURNS_NOT_ALTERNATING, f"{where} is from {found[:20]!r}, not from {speaker}")
    text = _text(said, "value", where).replace(IMAGE_MARKER, "").strip()
    if not text:
        raise Rejected(Reason.EMPTY_TURN, f"{where} has no text")
    return text


def _turn(number: int, question: str, answer: str) -> Turn:
    try:
        return Turn(question, answer, read_answer(answer))
    except Rejected as error:
        raise Rejected(error.reason, f"turn {number}: {error}") from error


def _get(value: object, key: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise Rejected(Reason.WRONG_TYPE, f"{where} is not an object")
    if key not in value:
        raise Rejected(Reason.MISSING_KEY, f"{where} has no {key}")
    return value[key]


def _text(value: object, key: str, where: str) -> str:
    text = _get(value, key, where)
    if not isinstance(text, str):
        raise Rejected(Reason.WRONG_TYPE, f"{key} of {where} is not a text")
    return _whole(text, f"{key} of {where}")


def _whole(text: str, where: str) -> str:
    """JSON can hold halves of characters, which neither a tokenizer nor a file takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Rejected(Reason.BROKEN_UNICODE, f"{where}: {error.reason} at {error.start}") from error
    return text
