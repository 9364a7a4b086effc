"""A trace as text and as a picture: a span a line, under its parent, from when to when."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt

from deploy.trace.receiver import Received

COLOURS = {"candidate": "#7aa974", "score": "#d9a441", "llm_request": "#9a7fc0"}
STAGE, DISCARDED, OTHER = "#5b8db8", "#cfd8cc", "#8c8c8c"

Row = tuple[int, Received]


def of_search(spans: Sequence[Received]) -> list[Received]:
    """Those of the first trace that has a search."""
    (trace, *_) = [span.trace for span in spans if span.name.startswith("chat ")]
    return [span for span in spans if span.trace == trace]


def rows(spans: Sequence[Received]) -> Iterator[Row]:
    """Each with its depth, children by their beginning."""
    known = {span.id for span in spans}

    def below(parent: str, depth: int) -> Iterator[Row]:
        for span in sorted((each for each in spans if each.parent == parent), key=lambda each: (each.start, each.end)):
            yield depth, span
            yield from below(span.id, depth + 1)

    for root in (span for span in spans if span.parent not in known):
        yield 0, root
        yield from below(root.id, 1)


def as_text(spans: Sequence[Received]) -> str:
    start = min(span.start for span in spans)
    lines = (
        f"{1000 * (span.start - start):8.1f} {1000 * (span.end - span.start):8.1f}  {'  ' * depth}{label(span)}"
        for depth, span in rows(spans)
    )
    return "\n".join(["   at ms       ms  span", *lines, ""])


def as_picture(spans: Sequence[Received], path: Path) -> None:
    start, all_rows = min(span.start for span in spans), list(rows(spans))
    figure, axes = plt.subplots(figsize=(13, 0.6 + 0.19 * len(all_rows)), layout="constrained")
    for line, (_, span) in enumerate(all_rows):
        at, length = 1000 * (span.start - start), 1000 * (span.end - span.start)
        axes.barh(line, max(length, 0.3), left=at, color=_colour(span), height=0.75)
        for name, event_at, told in span.events:
            if name == "retraced":
                text = f"| retraced to {told['swires.to']}"
                axes.text(1000 * (event_at - start), line, text, fontsize=7, va="center", color="white")
    axes.set_yticks(range(len(all_rows)), [f"{'    ' * depth}{label(span)}" for depth, span in all_rows], fontsize=7)
    for tick in axes.get_yticklabels():
        tick.set_horizontalalignment("left")
    axes.tick_params(axis="y", pad=250, length=0)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("milliseconds")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def label(span: Received) -> str:
    told = span.attributes
    match span.name:
        case "candidate":
            score = f", score {told['swires.score']:.2f}" if "swires.score" in told else ""
            fate = told.get("swires.fate", "")
            return f"candidate {told['swires.candidate']}: {told['gen_ai.usage.output_tokens']} tokens{score}, {fate}"
        case "score":
            return f"score {told['swires.candidates']} by {told['swires.scorer']}"
        case "llm_request":
            prompt, sampled = (told[f"gen_ai.usage.{kind}_tokens"] for kind in ("prompt", "completion"))
            return f"llm_request of vLLM: {prompt} + {sampled} tokens"
    return span.name


def _colour(span: Received) -> str:
    if span.name == "candidate" and span.attributes.get("swires.fate") != "chosen":
        return DISCARDED
    return COLOURS.get(span.name, STAGE if "swires.stage" in span.attributes else OTHER)
