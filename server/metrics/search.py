"""One search, counted by its events."""

import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Literal, Self, TypeAlias, get_args

from server.ending import outcome_without_answer
from server.metrics.families import Families
from swires.admission import Turn
from swires.budget import Limit
from swires.events import CandidateFinished, Event, Retraced, SearchFinished, StageStarted, TextCommitted
from swires.result import Fate, Node, SearchResult
from swires.stages import Stage
from swires.types import Candidate

TokenFate: TypeAlias = Fate | Literal["retraced", "lost"]

OUTCOMES = ("finished", *get_args(Limit), "deadline", "failed", "refused", "cancelled")


class WatchedSearch:
    """From the moment that it joins the line, on `clock`, to its end, which is that of the `with` block."""

    def __init__(
        self, families: Families, turn: Turn, policy: str, preset: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._families = families
        self._turn = turn
        self._policy = policy
        self._preset = preset
        self._clock = clock
        self._ended: list[Candidate] = []
        self._void: set[int] = set()
        self._stage: Stage | None = None
        self._stage_began = 0.0
        self._has_text = False
        self._outcome: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self._outcome or outcome_without_answer(error)
        self._families.searches.labels(self._policy, self._preset, outcome).inc()
        if outcome != "refused":  # which would look like a fast answer
            self._families.search_seconds.labels(self._policy, self._preset).observe(self._seconds)
        if self._outcome is None and self._ended:
            self._count_tokens("lost", self._ended)

    def take(self, event: Event) -> None:
        match event:
            case TextCommitted():
                self._tell()
            case StageStarted(stage):
                self._enter(stage)
            case CandidateFinished(candidate):
                self._ended.append(candidate)
                self._families.generations.labels(self._policy, candidate.stage.name).inc()
            case Retraced(to, void):
                self._void |= {candidate.id for candidate in self._ended if candidate.stage in void}
                self._families.retraces.labels(self._policy, to.name).inc()
            case SearchFinished(result):
                self._enter(None)
                self._finish(result)

    @property
    def _seconds(self) -> float:
        return self._clock() - self._turn.joined_at

    def _tell(self) -> None:
        if not self._has_text:
            self._has_text = True
            self._families.first_text_seconds.labels(self._policy, self._preset).observe(self._seconds)

    def _enter(self, stage: Stage | None) -> None:
        now = self._clock()
        if self._stage is None:
            self._families.queue_seconds.observe(self._turn.waited_s)
        else:
            self._families.stage_seconds.labels(self._policy, self._stage.name).observe(now - self._stage_began)
        self._stage, self._stage_began = stage, now

    def _finish(self, result: SearchResult) -> None:
        self._outcome = result.stopped_by or "finished"
        for fate, candidates in by_fate(result.nodes, self._void).items():
            self._count_tokens(fate, candidates)
        self._families.prompt_tokens.labels("cached").inc(result.tokens.cached)
        self._families.prompt_tokens.labels("computed").inc(result.tokens.computed)
        self._families.degraded.inc(result.scorer_degraded)
        if result.accepted is not None:
            accepted = str(result.accepted).lower()
            self._families.judged.labels(self._policy, self._preset, accepted).inc()

    def _count_tokens(self, fate: TokenFate, candidates: Sequence[Candidate]) -> None:
        num_tokens = sum(len(candidate.token_ids) for candidate in candidates)
        self._families.generated_tokens.labels(self._policy, fate).inc(num_tokens)


def by_fate(nodes: Sequence[Node], void: Collection[int]) -> dict[TokenFate, list[Candidate]]:
    """The candidates of a search; of those that lost, the ones that a retrace had made `void` apart."""
    found: dict[TokenFate, list[Candidate]] = {}
    for node in nodes:
        retraced = node.fate == "discarded" and node.candidate.id in void
        found.setdefault("retraced" if retraced else node.fate, []).append(node.candidate)
    return found
