"""The output of a run, made from its journal alone, and the list of what is not in it."""

import json
import os
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from training.data.annotation.call import Call
from training.data.annotation.errors import BadImage, Unanswered
from training.data.annotation.journal import Journal
from training.data.annotation.turns import Record, Turn, read_lines
from training.data.annotation.usage import Prices, Usage
from training.data.annotation.verdict import Annotated, Refused, annotate
from training.data.rejection import Rejected


@dataclass(frozen=True)
class Report:
    """What has become of the turns of a file; `refused` counts by reason, lines that are no records among them, and
    `usage` is that of all runs over the file."""

    num_annotated: int
    num_unanswered: int
    refused: Counter[str]
    usage: Usage

    def told(self, prices: Prices | None) -> str:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.refused.items()))
        text = f"{self.num_annotated:,} turns annotated; refused: {reasons or 'none'}\n{self.usage.told(prices)}"
        if self.num_unanswered:
            text += f"\n{self.num_unanswered:,} turns have no answer yet: run the same command again"
        return text


@dataclass
class Output:
    """Annotated turns go to `out`, each other one with its reason to `rest`, both in the order of the source."""

    journal: Journal
    attempts: int
    unanswered: Mapping[Turn, Unanswered]
    _num_annotated: int = field(default=0, init=False)
    _num_unanswered: int = field(default=0, init=False)
    _refused: Counter[str] = field(default_factory=Counter, init=False)
    _usage: Usage = field(default_factory=Usage, init=False)

    def write(self, source: Path, out: Path, rest: Path) -> Report:
        with replacing(out) as kept, replacing(rest) as others:
            for number, record in tqdm(read_lines(source), desc="writing", unit="record", delay=2):
                if isinstance(record, Rejected):
                    self._refused[record.reason] += 1
                    _write(others, {"line": number, "reason": record.reason, "detail": str(record)})
                elif texts := self._texts(number, record, others):
                    _write(kept, record.with_texts(texts))
        return Report(self._num_annotated, self._num_unanswered, self._refused, self._usage)

    def _texts(self, number: int, record: Record, others: IO[str]) -> dict[int, str]:
        texts = {}
        for turn in record.turns:
            replayed = self.journal.replay(annotate(turn, self.attempts))
            self._usage += replayed.usage
            if isinstance(replayed.state, Annotated):
                texts[turn.index] = replayed.state.text
            else:
                _write(others, {"line": number, **_about(turn), **self._why(turn, replayed.state)})
        self._num_annotated += len(texts)
        return texts

    def _why(self, turn: Turn, state: Call | Refused) -> dict[str, Any]:
        if isinstance(state, Refused):
            self._refused[state.reason] += 1
            return {"reason": state.reason, "attempts": [asdict(failure) for failure in state.failures]}
        error = self.unanswered[turn]
        if isinstance(error, BadImage):
            self._refused[error.reason] += 1
        else:
            self._num_unanswered += 1
        return {"reason": error.reason, "detail": str(error)}


@contextmanager
def replacing(path: Path) -> Generator[IO[str], None, None]:
    """A file that takes the place of `path` when it is whole."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _about(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.record,
        "turn": turn.index,
        "image": turn.image,
        "question": turn.question,
        "answer": turn.answer,
    }


def _write(file: IO[str], value: Mapping[str, Any]) -> None:
    file.write(json.dumps(value) + "\n")
