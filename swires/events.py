"""What a search tells while it runs. Frozen, plain values; candidates are named by their id within the search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from swires.result import SearchResult
from swires.stages import Stage
from swires.types import Candidate


@dataclass(frozen=True, slots=True)
class StageStarted:
    stage: Stage
    parents: tuple[int, ...]  # ids of the candidates that are continued; empty at the root
    num_candidates: int


@dataclass(frozen=True, slots=True)
class TextCommitted:
    """Text of the answer that can no longer change; all of them joined are the answer's whole text, tags included."""

    text: str


@dataclass(frozen=True, slots=True)
class CandidateFinished:
    candidate: Candidate
    parent: int | None


@dataclass(frozen=True, slots=True)
class CandidateScored:
    id: int
    stage: Stage
    score: float


@dataclass(frozen=True, slots=True)
class StageLeading:
    """Provisional: the best-scored candidate of the stage so far."""

    id: int
    stage: Stage
    score: float


@dataclass(frozen=True, slots=True)
class Retraced:
    """The search goes back to `to`; what StageLeading named for the `void` stages no longer leads."""

    to: Stage
    void: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class StageChosen:
    """Final: this candidate is part of the answer."""

    candidate: Candidate
    score: float | None


@dataclass(frozen=True, slots=True)
class SearchFinished:
    result: SearchResult


Event: TypeAlias = (
    StageStarted
    | TextCommitted
    | CandidateFinished
    | CandidateScored
    | StageLeading
    | Retraced
    | StageChosen
    | SearchFinished
)

Emit: TypeAlias = Callable[[Event], None]
