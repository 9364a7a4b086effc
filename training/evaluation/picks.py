"""Where a search loses: stage by stage, what was sampled and what the scorer made of it."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from swires.parser import parse
from swires.stages import Stage
from training.evaluation.answers import Answer
from training.tasks.example import Example
from training.tasks.truth import is_true

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Picks:
    """Of the candidates of one stage, over all searches that had some scored: the share that is right, that of searches
    that had a right one at all, and that of searches whose best scored one is right. Where a search had both right and
    wrong ones, `ranked` is the chance that a right one scores above a wrong one."""

    stage: Stage
    num_searches: int
    sampled: float
    possible: float
    picked: float
    ranked: float


def picks(answers: Sequence[Answer], examples: Sequence[Example]) -> list[Picks]:
    """By stage, for those whose candidates are scored, of answers with a trace."""
    groups: dict[Stage, list[list[tuple[float, bool]]]] = defaultdict(list)
    for answer in answers:
        for stage, candidates in _scored(answer.trace, examples[answer.problem]).items():
            groups[stage].append(candidates)
    return [_picks(stage, groups[stage]) for stage in Stage if groups[stage]]


def _scored(trace: Sequence[Node], example: Example) -> Mapping[Stage, list[tuple[float, bool]]]:
    """The scores of the finished candidates of each stage, and whether each is right."""
    found: dict[Stage, list[tuple[float, bool]]] = defaultdict(list)
    for node in trace:
        sections = parse(node["text"])
        if node["score"] is not None and node["finish_reason"] == "stop" and sections:
            last = sections[-1]
            found[last.stage].append((node["score"], is_true(example, last.stage, last.text)))
    return found


def _picks(stage: Stage, searches: Sequence[Sequence[tuple[float, bool]]]) -> Picks:
    return Picks(
        stage,
        len(searches),
        sampled=fmean(fmean(right for _, right in each) for each in searches),
        possible=fmean(any(right for _, right in each) for each in searches),
        picked=fmean(max(each, key=lambda one: one[0])[1] for each in searches),
        ranked=fmean(pairs) if (pairs := [pair for each in searches for pair in _pairs(each)]) else math.nan,
    )


def _pairs(candidates: Sequence[tuple[float, bool]]) -> Iterator[float]:
    for score, right in candidates:
        for other, other_right in candidates:
            if right and not other_right:
                yield 1.0 if score > other else 0.5 if score == other else 0.0


def table(rows: Sequence[Picks]) -> str:
    head = f"{'stage':<12}{'searches':>9}{'sampled right':>15}{'one right':>11}{'picked right':>14}{'ranked':>8}"
    return "\n".join([head, *map(_line, rows)])


def _line(row: Picks) -> str:
    shares = f"{row.sampled:15.1%}{row.possible:11.1%}{row.picked:14.1%}{row.ranked:8.2f}"
    return f"{row.stage.name:<12}{row.num_searches:9}{shares}"
