"""What is asked of our rows, as ratios to others of the same round."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from deploy.bench.measure import Cell

Figure: TypeAlias = Callable[[Cell], float]

FIGURES: Mapping[str, Figure] = {
    "searches/s": lambda cell: cell.searches_per_s,
    "tokens/s": lambda cell: cell.tokens_per_s,
    "first byte": lambda cell: median(cell.first_s),
    "answer": lambda cell: median(cell.answer_s),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """`row` over `other` in one of FIGURES, of which so much is asked: at least, or at most."""

    figure: str
    row: str
    other: str
    clients: int
    bar: float
    at_most: bool = False

    def met_by(self, ratio: float) -> bool:
        return ratio <= self.bar if self.at_most else ratio >= self.bar


CLIENTS = (1, 4, 16, 64)
BARS = (
    *(
        Bar("tokens/s", "ours-inprocess", "ceiling", clients, bar)
        for clients, bar in zip(CLIENTS, (0.80, 0.97, 1.0, 1.0), strict=True)
    ),
    Bar("searches/s", "ours-best-of-n", "its_hub-best-of-n", 16, 2.0),
    Bar("searches/s", "ours-stage-beam", "its_hub-beam", 16, 2.0),
    Bar("searches/s", "ours-http", "naive-candidate", 16, 1.5),
    Bar("searches/s", "ours-http", "reference-loop", 1, 5.0),
    Bar("searches/s", "ours-http", "reference-loop", 16, 20.0),
    *(Bar("searches/s", "plain-ours", "plain-vllm", clients, 0.97) for clients in CLIENTS),
    *(Bar("first byte", "plain-ours", "plain-vllm", clients, 1.1, at_most=True) for clients in CLIENTS),
    Bar("first byte", "ours-http", "plain-vllm", 1, 1.2, at_most=True),
    Bar("answer", "ours-http", "plain-ours", 1, 1.6, at_most=True),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median over the rounds that have both rows, and the least and the greatest."""

    bar: Bar
    median: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        return self.bar.met_by(self.median)


def ratios(cells: Sequence[Cell], bars: Sequence[Bar] = BARS) -> Iterator[Ratio]:
    """Of all bars whose rows were measured."""
    known = {cell.key: cell for cell in cells}
    rounds = sorted({cell.round for cell in cells})
    for bar in bars:
        figure = FIGURES[bar.figure]
        pairs = [
            (known.get((bar.row, bar.clients, each)), known.get((bar.other, bar.clients, each))) for each in rounds
        ]
        found = [figure(one) / figure(other) for one, other in pairs if one and other]
        if found:
            yield Ratio(bar, median(found), min(found), max(found))
