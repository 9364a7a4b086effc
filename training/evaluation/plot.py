"""Accuracy over what it costs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from training.evaluation.statistics import Result

MARKERS = "osD^vP*X"
SIZES = ("candidates", "keep", "max_retraces")
"""The numbers of a policy that make it more or less costly."""


def draw(rows: Sequence[Result], picture: Path, cost: Callable[[Result], float], unit: str) -> None:
    """A point for each arm with its 95 % interval, a line through those that differ in size alone."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (family, members) in enumerate(_families(rows).items()):
        members = sorted(members, key=cost)
        values = [100 * row.right.value for row in members]
        below = [100 * (row.right.value - row.right.low) for row in members]
        above = [100 * (row.right.high - row.right.value) for row in members]
        axes.errorbar(
            [cost(row) for row in members],
            values,
            (below, above),
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.5,
            elinewidth=0.6,
            label=family,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=unit, ylabel="right (%), with 95 % intervals")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(picture, dpi=120)


def _families(rows: Sequence[Result]) -> dict[str, list[Result]]:
    """Arms that differ in their size alone."""
    found: dict[str, list[Result]] = {}
    for row in rows:
        policy, _, numbers = row.arm.partition(":")
        traits = [each for each in numbers.split(",") if each and each.partition("=")[0] not in SIZES]
        found.setdefault(", ".join([policy, *traits]), []).append(row)
    return found
