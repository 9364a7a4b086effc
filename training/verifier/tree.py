"""What a server sampled for a problem: a tree of stages, and how often each of them led to the right answer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from swires.parser import parse
from swires.stages import Stage
from training.evaluation.problems import is_right
from training.verifier.problem import Problem

StageName: TypeAlias = Annotated[
    Stage,
    BeforeValidator(lambda name: Stage[name] if isinstance(name, str) and name in Stage.__members__ else name),
    PlainSerializer(lambda stage: stage.name),
]
Path: TypeAlias = tuple[str, ...]
"""The texts of the stages so far, tags included."""


class Sampled(BaseModel):
    """A candidate as the trace of an answer tells it, of which more is told than is read here."""

    model_config = ConfigDict(frozen=True)

    id: int
    parent: int | None
    stage: StageName
    text: str
    finish_reason: Literal["stop", "length", "cut", "failed"]


class Tree(BaseModel):
    """What one request sampled; `number` tells the trees of a problem apart."""

    model_config = ConfigDict(frozen=True)

    problem: Problem
    number: int
    candidates: tuple[Sampled, ...]

    def paths(self) -> Iterator[tuple[Path, Sampled]]:
        paths: dict[int | None, Path] = {None: ()}
        for candidate in self.candidates:
            paths[candidate.id] = (*paths[candidate.parent], candidate.text)
            yield paths[candidate.id], candidate


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of the rollouts from a stage, how many ended and how many of these ended right."""

    stage: Stage
    right: int
    rollouts: int

    @property
    def share(self) -> float:
        return self.right / self.rollouts

    def also(self, right: bool) -> "Outcomes":
        return Outcomes(self.stage, self.right + right, self.rollouts + 1)


def outcomes(trees: Iterable[Tree]) -> Mapping[Path, Outcomes]:
    """Of each finished stage of a problem's trees, after its earlier ones, what became of it.

    What reads the same is the same stage, whichever candidates it came as, and has the rollouts of all of them. An
    answer that reached its limit of length before it was whole did not end right; what the search cut did not end.
    """
    found: dict[Path, Outcomes] = {}
    for tree in trees:
        for path, last in tree.paths():
            if last.finish_reason == "stop":
                found.setdefault(path, Outcomes(last.stage, 0, 0))
            right = _ended(path, last, tree.problem.answer)
            if right is not None:
                for length in range(1, len(path) + 1):
                    if (stage := found.get(path[:length])) is not None:
                        found[path[:length]] = stage.also(right)
    return {path: stage for path, stage in found.items() if stage.rollouts}


def _ended(path: Path, last: Sampled, answer: str) -> bool | None:
    """Whether the rollout ends here, and right."""
    if last.finish_reason == "length":
        return False
    if last.finish_reason == "cut" or last.stage is not Stage.CONCLUSION:
        return None
    said = "".join(part.text for part in parse("".join(path)) if part.stage is Stage.CONCLUSION)
    return is_right(said, answer)
