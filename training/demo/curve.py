"""The curve of a training run as a picture."""

import json
from pathlib import Path

from matplotlib.figure import Figure

LINES = ("caption", "reasoning", "answer", "easy_vqa")


def draw_curve(history: Path, picture: Path, judging_from: int) -> None:
    """Share of held-out problems with each stage right, over optimizer steps, from a run's history.jsonl."""
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in LINES:
        axes.plot([row["step"] for row in rows], [100 * row[name] for row in rows], marker=".", label=name)
    axes.axvline(judging_from, color="gray", linestyle=":", label="learns to judge from here")
    axes.set(xlabel="optimizer step", ylabel="right, greedy (%)", ylim=(0, 101))
    axes.legend()
    figure.savefig(picture, dpi=110)
