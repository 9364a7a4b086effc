"""The cells of a run as the table, the bars and the plot: `results.json`, `results.md`, `results.png`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

import matplotlib
from pydantic_core import to_json

from deploy.bench.bars import Ratio, ratios
from deploy.bench.measure import Cell
from deploy.bench.rows import ROWS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Json: TypeAlias = dict[str, Any]
PERCENTILES = (50, 95, 99)
COLORS = plt.get_cmap("tab20")
COLUMNS = {
    "row": "row",
    "clients": "clients",
    "searches_per_s": "searches/s",
    "tokens_per_s": "tokens/s",
    "right_per_s": "right/s",
    "first_p50_s": "first text p50, s",
    "first_p95_s": "p95",
    "first_p99_s": "p99",
    "answer_p50_s": "answer p50, s",
    "answer_p95_s": "p95",
    "answer_p99_s": "p99",
    "computed_prompt_tokens": "prompt tokens computed",
    "cached_prompt_tokens": "cached",
    "peak_mib": "peak MiB",
}


def report(folder: Path, of: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Write all three; those of fixed lengths and of quick runs under names of their own."""
    rows, found = list(summed_up(cells)), list(ratios(cells))
    name = "results" + ("-fixed" if of["lengths"] == "fixed" else "") + ("-quick" if of["quick"] else "")
    told = {**of, "rows": rows, "ratios": [{**asdict(each), "met": each.met} for each in found]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(to_json(told, indent=2) + b"\n")
    (folder / f"{name}.md").write_text(page(of, rows, found))
    plot(folder / f"{name}.png", rows)


def summed_up(cells: Sequence[Cell]) -> Iterator[Json]:
    """A row of the table for each row and number of clients: medians over rounds, percentiles over all searches,
    prompt tokens for each search."""
    for name in ROWS:
        for clients in sorted({cell.clients for cell in cells if cell.row == name}):
            yield _summed_up([cell for cell in cells if (cell.row, cell.clients) == (name, clients)])


def _summed_up(cells: Sequence[Cell]) -> Json:
    return {
        "row": cells[0].row,
        "clients": cells[0].clients,
        "rounds": len(cells),
        "searches": sum(cell.num_searches for cell in cells),
        "generations_per_search": sum(cell.generations for cell in cells) / sum(cell.num_searches for cell in cells),
        "searches_per_s": median(cell.searches_per_s for cell in cells),
        "tokens_per_s": median(cell.tokens_per_s for cell in cells),
        "right_per_s": median(cell.right_per_s for cell in cells),
        **percentiles("first", [each for cell in cells for each in cell.first_s]),
        **percentiles("answer", [each for cell in cells for each in cell.answer_s]),
        "computed_prompt_tokens": _per_search(cells, lambda cell: cell.computed_tokens),
        "cached_prompt_tokens": _per_search(cells, lambda cell: cell.cached_tokens),
        "peak_mib": max(cell.peak_mib for cell in cells),
    }


def _per_search(cells: Sequence[Cell], tokens: Callable[[Cell], float | None]) -> float | None:
    known = [(each, cell.num_searches) for cell in cells if (each := tokens(cell)) is not None]
    return sum(each for each, _ in known) / sum(num for _, num in known) if known else None


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Between the least and the greatest, a line between neighbours."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return {f"{name}_p{each}_s": cuts[each - 1] for each in PERCENTILES}


def page(of: Mapping[str, Any], rows: Sequence[Json], found: Sequence[Ratio]) -> str:
    medians = ("bar", "asked", "median", "least to most", "met")
    lines = [
        f"# Results, lengths {'fixed' if of['lengths'] == 'fixed' else 'as sampled'}",
        "",
        f"`python -m deploy.bench` on {of['machine']}, commit {of['commit']}. [What the rows are](README.md).",
        "",
        *_table(medians, (_bar(each) for each in found)),
        "",
        *_table(COLUMNS.values(), ([_shown(row[name]) for name in COLUMNS] for row in rows)),
        "",
        "Prompt tokens are for each search, of all its calls to the engine.",
    ]
    return "\n".join(lines) + "\n"


def _bar(ratio: Ratio) -> list[str]:
    bar = ratio.bar
    name = f"{bar.figure}, {bar.row} over {bar.other} at {bar.clients}"
    asked = f"{'at most' if bar.at_most else 'at least'} {bar.bar:g}"
    spread = f"{ratio.least:.2f} to {ratio.most:.2f}"
    return [name, asked, f"{ratio.median:.2f}", spread, "yes" if ratio.met else "**no**"]


def _table(names: Iterable[str], lines: Iterable[Sequence[str]]) -> list[str]:
    head = list(names)
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]


def _shown(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def plot(path: Path, rows: Sequence[Json]) -> None:
    """Throughput and the time to the answer over clients, a line for each row."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    for index, name in enumerate(dict.fromkeys(row["row"] for row in rows)):
        of_row = [row for row in rows if row["row"] == name]
        clients = [row["clients"] for row in of_row]
        style = {"marker": "o", "linestyle": "-" if name.startswith("ours") else "--", "color": COLORS(index)}
        left.plot(clients, [row["searches_per_s"] for row in of_row], label=name, **style)
        right.plot(clients, [row["answer_p50_s"] for row in of_row], **style)
    for axes, label in ((left, "searches/s"), (right, "seconds to the answer, median")):
        axes.set(xscale="log", yscale="log", xlabel="clients", ylabel=label)
        axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    figure.legend(loc="outside right center")
    figure.savefig(path, dpi=110)
    plt.close(figure)
