"""Ways to answer, and the answers that came of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from training.evaluation.problems import is_right


@dataclass(frozen=True)
class Arm:
    """One way to answer: what goes into the request's `swires` object. Written as POLICY or POLICY:key=value,..., where
    `a.b=value` is the field b of the object a."""

    name: str
    swires: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Arm":
        policy, _, rest = text.partition(":")
        options: dict[str, Any] = {"policy": policy}
        for key, _, value in (pair.partition("=") for pair in rest.split(",") if pair):
            *objects, name = key.split(".")
            inner = options
            for each in objects:
                inner = inner.setdefault(each, {})
            inner[name] = _value(value)
        return cls(text, options)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class Answer:
    """One problem answered by one arm, in one of several repeats with other samples.

    `tokens` are all that were generated, losing candidates included, `scored` those that the scorer computed. `trace`
    is the tree of the search as the server tells it, empty where it was not asked for.
    """

    arm: str
    problem: int
    repeat: int
    expected: str
    content: str
    tokens: int
    scored: int
    generations: int
    retraces: int
    seconds: float
    trace: Sequence[Mapping[str, Any]] = ()

    @property
    def right(self) -> bool:
        return is_right(self.content, self.expected)


class Record:
    """Answers as lines of JSON in a file, each written whole: a run that was stopped goes on from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = _read(path) if path.exists() else []

    def add(self, answer: Answer) -> None:
        self.answers.append(answer)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(answer)) + "\n")


class BadRecord(Exception):
    """A file that holds no answers."""


def _read(path: Path) -> list[Answer]:
    """A last line that a kill has torn is cut off."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    names = {field.name for field in fields(Answer)}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows, 1):
        if set(row) != names:
            raise BadRecord(f"{path}, line {number}: is no answer of `evaluate`; name another --record")
    return [Answer(**row) for row in rows]
