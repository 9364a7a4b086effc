"""Sampled stages to labels: right where enough of the rollouts end right, split by problem, balanced by stage."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from swires.stages import Stage
from training.verifier import jsonl
from training.verifier.errors import BadFile
from training.verifier.problem import Problem
from training.verifier.tree import StageName, Tree, outcomes

TRAIN, HELD_OUT = "train.jsonl", "heldout.jsonl"


class Judged(BaseModel):
    """A stage after its earlier ones, as sampled, tags included; `share` of its rollouts ended right."""

    model_config = ConfigDict(frozen=True)

    stage: StageName
    texts: tuple[str, ...]
    right: bool
    share: float
    rollouts: int


class Labelled(BaseModel):
    """A problem and what was sampled for it."""

    model_config = ConfigDict(frozen=True)

    problem: Problem
    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A stage is right from a share of `threshold` on, and left out where its share is closer than `margin` to it."""

    threshold: float = 0.5
    margin: float = 0.25

    def judge(self, trees: Iterable[Tree]) -> tuple[Judged, ...]:
        """The stages of one problem that are not ambiguous."""
        return tuple(
            Judged(
                stage=found.stage,
                texts=path,
                right=found.share >= self.threshold,
                share=found.share,
                rollouts=found.rollouts,
            )
            for path, found in outcomes(trees).items()
            if abs(found.share - self.threshold) >= self.margin
        )


def label(record: Path, out: Path, rule: Rule, *, held_out: float, seed: int) -> str:
    """Write TRAIN and HELD_OUT into the folder `out` and tell what is in them. Raises BadFile.

    The held-out problems keep all of their stages: measures are to see them as they come.
    """
    by_problem: dict[Problem, list[Tree]] = defaultdict(list)
    for tree in jsonl.read(record, Tree):
        by_problem[tree.problem].append(tree)
    labelled = [Labelled(problem=problem, judged=rule.judge(trees)) for problem, trees in by_problem.items()]
    kept, others = split(labelled, held_out, seed)
    if not kept or not others:
        raise BadFile(f"{record}: its {len(labelled)} problems are too few to hold some of them out")
    balanced = balance(kept, seed)
    out.mkdir(parents=True, exist_ok=True)
    jsonl.write(out / TRAIN, balanced)
    jsonl.write(out / HELD_OUT, others)
    return counts({"sampled": kept, "to train": balanced, "held out": others})


def split(labelled: Sequence[Labelled], held_out: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """By what a problem is, so that it stays on its side when more are sampled; the last are held out."""
    sides: tuple[list[Labelled], list[Labelled]] = ([], [])
    for one in labelled:
        sides[random.Random(f"{seed} {one.problem.key}").random() < held_out].append(one)
    return sides


def balance(labelled: Sequence[Labelled], seed: int) -> list[Labelled]:
    """As many right as wrong ones of each stage: of the more frequent some are left out, drawn at random."""
    rng = random.Random(seed)
    places: dict[tuple[Stage, bool], list[tuple[int, int]]] = defaultdict(list)
    for row, one in enumerate(labelled):
        for at, judged in enumerate(one.judged):
            places[judged.stage, judged.right].append((row, at))
    kept = {
        place
        for stage in Stage
        for right in (False, True)
        for place in rng.sample(places[stage, right], min(len(places[stage, False]), len(places[stage, True])))
    }
    thinned = [
        Labelled(problem=one.problem, judged=tuple(each for at, each in enumerate(one.judged) if (row, at) in kept))
        for row, one in enumerate(labelled)
    ]
    return [one for one in thinned if one.judged]


def counts(parts: Mapping[str, Sequence[Labelled]]) -> str:
    """A table of right and wrong stages."""
    lines = [f"{'':<10} {'problems':>8}" + "".join(f" {stage.name.lower() + ' + / -':>17}" for stage in Stage)]
    for name, labelled in parts.items():
        found = Counter((judged.stage, judged.right) for one in labelled for judged in one.judged)
        cells = "".join(f" {f'{found[stage, True]:,} / {found[stage, False]:,}':>17}" for stage in Stage)
        lines.append(f"{name:<10} {len(labelled):>8,}{cells}")
    return "\n".join(lines)
