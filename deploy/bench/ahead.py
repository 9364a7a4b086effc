"""What stages begun early save: the same searches, of the same seeds, with and without, in turn on one engine.

`python -m deploy.bench.ahead` measures, tells its progress and writes `ahead.json` and `ahead.md`.
"""

import argparse
import asyncio
import base64
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from textwrap import fill
from typing import Any

from PIL import Image

from deploy.bench.__main__ import MODEL, commit, machine
from deploy.bench.closed_loop import Answered, Load, closed_loop
from deploy.bench.questions import Question, questions
from deploy.bench.schedule import TEMPERATURE, TOP_P
from server.checkpoint import load
from server.presets import PRESETS
from server.scorer.offered import make_scorers
from server.serving_engine import ServingEngine
from server.settings import PolicyName, Settings
from swires.events import SearchFinished
from swires.plan import SearchPlan
from swires.policies import POLICIES
from swires.protocols import Scorer
from swires.scheduler import Scheduler
from swires.types import Sampling

HERE = Path(__file__).parent
SETTINGS = Settings.model_fields
IN_TURN, AHEAD = "in turn", "ahead"
SEARCHES: Mapping[int, int] = {1: 24, 4: 32, 16: 48, 64: 96}
"""Of each cell, by its clients."""
WARM_UP = 48
"""Searches of each scheduler before it is measured: it learns what is likely."""


@dataclass(frozen=True, slots=True)
class Cell:
    policy: str
    clients: int
    round: int
    arm: str
    searches_per_s: float
    answer_p50_s: float
    answer_p95_s: float
    right: float
    tokens: int
    undone_tokens: int


class Arm:
    """Searches of one policy, preset `balanced`, on a scheduler of their own."""

    def __init__(self, engine: ServingEngine, scorer: Scorer, policy: PolicyName, name: str, mark: int) -> None:
        self.engine, self.scorer, self.policy, self.name, self.mark = engine, scorer, policy, name, mark
        look_ahead = SETTINGS["look_ahead"].default if name == AHEAD else 0
        capacity = SETTINGS["max_candidates"].default
        self.scheduler = Scheduler(self.engine, capacity=capacity, max_waiting=capacity, look_ahead=look_ahead)
        self.scheduler.foresight.on_undone = self._note
        self.undone_tokens = 0

    def _note(self, policy: str, num_tokens: int) -> None:
        self.undone_tokens += num_tokens

    async def measured(self, clients: int, round_: int, num_searches: int) -> Cell:
        """Each round asks other scenes, each arm with pictures of its own: none is in a cache."""
        asked = questions(num_searches, seed=1000 * round_ + clients, mark=self.mark)
        self.undone_tokens = 0
        return self._cell(clients, round_, asked, await closed_loop(self.ask, asked, clients))

    async def ask(self, question: Question) -> Answered:
        started = time.perf_counter()
        image = Image.open(io.BytesIO(base64.b64decode(question.image.partition(",")[2])))
        parts = [{"type": "image"}, {"type": "text", "text": question.text}]
        problem = await self.engine.render([{"role": "user", "content": parts}], [image])
        numbers: Mapping[str, Any] = PRESETS["balanced"][self.policy]
        seed = int.from_bytes(question.key.encode()) % 2**31
        plan = SearchPlan(problem, POLICIES[self.policy](**numbers), Sampling(TEMPERATURE, TOP_P, seed=seed))
        async with aclosing(self.scheduler.run(plan, self.scorer)) as events:
            (result,) = [event.result async for event in events if isinstance(event, SearchFinished)]
        seconds = time.perf_counter() - started
        return Answered(result.sections[-1].text, result.tokens.generated, result.generations, seconds, seconds)

    def _cell(self, clients: int, round_: int, asked: Sequence[Question], told: Load) -> Cell:
        answers = list(zip(asked, told.answers, strict=True))
        cuts = quantiles([answer.seconds for answer in told.answers], n=20, method="inclusive")
        return Cell(
            self.policy,
            clients,
            round_,
            self.name,
            searches_per_s=len(asked) / told.seconds,
            answer_p50_s=cuts[9],
            answer_p95_s=cuts[18],
            right=sum(question.answered_by(answer.content) for question, answer in answers) / len(asked),
            tokens=sum(answer.tokens for answer in told.answers),
            undone_tokens=self.undone_tokens,
        )


async def measured(engine: ServingEngine, scorer: Scorer, options: argparse.Namespace) -> list[Cell]:
    """The arms change their order every other round."""
    cells = []
    for policy in options.policies:
        arms = [Arm(engine, scorer, policy, name, mark) for mark, name in enumerate((IN_TURN, AHEAD))]
        for arm in arms:
            await arm.measured(4, 0, WARM_UP)
        for round_ in range(1, options.rounds + 1):
            for clients in options.clients:
                for arm in arms if round_ % 2 else reversed(arms):
                    cell = await arm.measured(clients, round_, SEARCHES[clients])
                    print(f"{policy}, {clients} clients, round {round_}, {arm.name}: {cell.searches_per_s:.2f}/s")
                    cells.append(cell)
    return cells


def table(cells: Sequence[Cell]) -> str:
    """The figures of both arms as medians of the rounds, the ratios as medians of each round's, least and greatest."""
    head = ("policy", "clients", "searches/s", "ratio", "answer p50, s", "ratio", "p95, s", "ratio", "right", "undone")
    rows = (head, ("---",) * len(head), *_rows(cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    for policy, clients in dict.fromkeys((cell.policy, cell.clients) for cell in cells):
        mine = [cell for cell in cells if (cell.policy, cell.clients) == (policy, clients)]
        arms = [sorted((c for c in mine if c.arm == arm), key=lambda c: c.round) for arm in (IN_TURN, AHEAD)]
        row = [policy, str(clients)]
        for figure in ("searches_per_s", "answer_p50_s", "answer_p95_s"):
            before, after = ([getattr(cell, figure) for cell in arm] for arm in arms)
            ratios = [one / other for one, other in zip(after, before, strict=True)]
            row.append(f"{median(before):.3g}, {median(after):.3g}")
            row.append(f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})")
        row.append(", ".join(f"{median(cell.right for cell in arm):.2f}" for arm in arms))
        row.append(f"{sum(c.undone_tokens for c in arms[1]) / sum(c.tokens for c in arms[1]):.1%}")
        yield tuple(row)


def report(out: Path, cells: Sequence[Cell]) -> None:
    of = {"machine": machine(), "commit": commit()}
    (out / "ahead.json").write_text(json.dumps(of | {"cells": [asdict(cell) for cell in cells]}, indent=1) + "\n")
    (out / "ahead.md").write_text(page(cells, **of))


def page(cells: Sequence[Cell], *, machine: str, commit: str) -> str:
    look_ahead = SETTINGS["look_ahead"].default
    before = (
        f"`make bench-ahead` on {machine}, commit {commit}: searches of the same seeds in turn, and with likely stages "
        f"[begun early](../../server/docs/search.md#begun-early), `--look-ahead {look_ahead}`, interleaved; preset "
        "`balanced`, the embedded checkpoint, no HTTP."
    )
    after = (
        "First in turn, then ahead; ratios are of a round, least to greatest behind their median. Undone are the "
        "tokens that were begun early for nothing, as a share of those of the answers' trees."
    )
    return f"# Stages begun early\n\n{fill(before, 120)}\n\n{table(cells)}\n\n{fill(after, 120)}\n"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.ahead", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint (default: the embedded one)")
    parser.add_argument("--policies", nargs="+", choices=("swires", "adaptive"), default=["swires", "adaptive"])
    parser.add_argument("--clients", nargs="+", type=int, choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--rounds", type=int, default=3, help="of which medians are told (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results (default: this one)")
    return parser.parse_args(arguments)


async def main() -> int:
    from server.engine.vllm_engine import VllmEngine  # seconds, and warnings of torch's

    options = parsed()
    async with VllmEngine(str(options.model)) as engine:
        (scorer,) = make_scorers(engine, load(str(options.model)), ("verifier",)).values()
        cells = await measured(engine, scorer, options)
    report(options.out, cells)
    print(table(cells))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
