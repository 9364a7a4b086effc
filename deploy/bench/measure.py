"""One cell of one round, measured; cells are kept in a file, so that a run goes on where another was cut off."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from deploy.bench.closed_loop import Load, closed_loop
from deploy.bench.processes import PromptTokens, peak_memory
from deploy.bench.questions import Question, questions
from deploy.bench.rows import Fleet, Row


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row did in one round with so many clients. Prompt tokens are all that its engine read, of all calls;
    None where there is no such engine. Lists are in the order of the questions."""

    row: str
    clients: int
    round: int
    seconds: float
    tokens: int
    generations: int
    num_right: int
    first_s: tuple[float, ...]
    answer_s: tuple[float, ...]
    cached_tokens: float | None
    computed_tokens: float | None
    peak_mib: float

    @property
    def key(self) -> tuple[str, int, int]:
        return self.row, self.clients, self.round

    @property
    def num_searches(self) -> int:
        return len(self.answer_s)

    @property
    def searches_per_s(self) -> float:
        return self.num_searches / self.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def right_per_s(self) -> float:
        return self.num_right / self.seconds


@dataclass(frozen=True, slots=True)
class Turn:
    """Which cell is next: `mark` tells its pictures from those of other rows, its questions are theirs."""

    row: str
    clients: int
    round: int
    num_searches: int
    mark: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.row, self.clients, self.round

    def questions(self) -> list[Question]:
        return questions(self.num_searches, seed=1000 * self.round + self.clients, mark=self.mark)


async def measured(turn: Turn, row: Row, fleet: Fleet) -> Cell:
    asked = turn.questions()
    if row.prepare is not None:
        await asyncio.gather(*(row.prepare(fleet, question) for question in asked))
    engine, pids = fleet.running[row.engine], [fleet.running[name].pid for name in row.processes]
    before = await engine.metrics()
    async with peak_memory(pids) as peak:
        load = await closed_loop(row.ask(fleet), asked, turn.clients)
    read = PromptTokens.read(await engine.metrics()).since(PromptTokens.read(before)) if before else None
    return _cell(turn, asked, load, read, peak[0])


def _cell(turn: Turn, asked: list[Question], load: Load, read: PromptTokens | None, peak_mib: float) -> Cell:
    answered = list(zip(asked, load.answers, strict=True))
    return Cell(
        *turn.key,
        seconds=load.seconds,
        tokens=sum(answer.tokens for answer in load.answers),
        generations=sum(answer.generations for answer in load.answers),
        num_right=sum(question.answered_by(answer.content) for question, answer in answered),
        first_s=tuple(answer.first_s for answer in load.answers),
        answer_s=tuple(answer.seconds for answer in load.answers),
        cached_tokens=None if read is None else read.cached,
        computed_tokens=None if read is None else read.computed,
        peak_mib=peak_mib,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of cells, the first line of which says what they were measured of."""

    path: Path

    def begin(self, of: Mapping[str, Any]) -> list[Cell]:
        """The cells that there are, none if they are of something else; the file is then begun anew."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        if lines and from_json(lines[0]) == of:
            return [_read(line) for line in lines[1:]]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(to_json(of) + b"\n")
        return []

    def add(self, cell: Cell) -> None:
        with self.path.open("ab") as file:
            file.write(to_json(asdict(cell)) + b"\n")


def _read(line: str) -> Cell:
    told = from_json(line)
    return Cell(**told | {name: tuple(told[name]) for name in ("first_s", "answer_s")})
