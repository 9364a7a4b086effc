"""What a stream has told of its search: a line for each candidate that may still become part of the answer."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from swires.parser import parse
from swires.stages import Stage

Standing: TypeAlias = Literal["sampled", "cut", "leads", "kept", "dropped"]


@dataclass(frozen=True, slots=True)
class Line:
    """A candidate, which is still being sampled where it has no standing."""

    id: int
    stage: Stage
    text: str = ""
    score: float | None = None
    standing: Standing | None = None

    @property
    def beginning(self) -> str:
        """Its text as one line, of a whole answer that of its last stage."""
        sections = parse(self.text)
        own = [section.text for section in sections if section.stage is self.stage]
        return " ".join((own or [section.text for section in sections] or [""])[-1].split())


@dataclass(frozen=True, slots=True)
class Progress:
    """`stage` is being searched; the search has gone back over `void`, of which it may still keep any."""

    stage: Stage | None = None
    lines: tuple[Line, ...] = ()
    void: tuple[Line, ...] = ()
    num_ids: int = 0

    def after(self, facts: Mapping[str, Any]) -> "Progress":
        """`facts` are those of an event, as the server's streams tell it; of another nothing changes."""
        match facts:
            case {"event": "stage_started", "stage": stage, "parents": parents, "candidates": candidates}:
                return self._started(Stage[stage], parents, candidates)
            case {"event": "candidate_finished", "id": number, "text": text, "finish_reason": reason}:
                return self._with(number, text=text, standing="sampled" if reason == "stop" else "cut")
            case {"event": "candidate_scored", "id": number, "score": score}:
                return self._with(number, score=score)
            case {"event": "stage_leading", "id": number}:
                return self._led()._with(number, standing="leads")
            case {"event": "retraced", "void": void}:
                return self._retraced({Stage[stage] for stage in void})
            case {"event": "stage_chosen", "stage": stage}:
                return self._chosen(Stage[stage])
        return self

    def streaming(self) -> "Progress":
        """Text of the answer comes while a candidate is sampled: it is the only one, and the text is its own."""
        return self._where(lambda line: line.standing is not None)

    def _started(self, stage: Stage, parents: Collection[int], num_candidates: int) -> "Progress":
        returning = tuple(line for line in self.void if line.id in parents)
        void = tuple(line for line in self.void if line.id not in parents)
        ids = range(self.num_ids, self.num_ids + num_candidates)
        decided = [_decided(line, stage, parents) for line in (*returning, *self.lines)]
        return Progress(stage, (*decided, *(Line(number, stage) for number in ids)), void, ids.stop)

    def _with(self, number: int, **changes: Any) -> "Progress":
        return replace(
            self, lines=tuple(replace(line, **changes) if line.id == number else line for line in self.lines)
        )

    def _led(self) -> "Progress":
        leaders = [line.id for line in self.lines if line.standing == "leads"]
        return self._with(leaders[0], standing="sampled") if leaders else self

    def _retraced(self, void: Collection[Stage]) -> "Progress":
        over = tuple(line for line in self.lines if line.stage in void)
        return replace(self._where(lambda line: line.stage not in void), void=(*self.void, *over))

    def _chosen(self, stage: Stage) -> "Progress":
        return self._where(lambda line: line.stage > stage)

    def _where(self, holds: Callable[[Line], bool]) -> "Progress":
        return replace(self, lines=tuple(filter(holds, self.lines)))


def _decided(line: Line, stage: Stage, parents: Collection[int]) -> Line:
    """Once `stage` has begun from `parents`; more of the same stage leaves its others as they were."""
    if line.id in parents:
        return replace(line, standing="kept")
    return replace(line, standing="dropped") if line.stage < stage and line.standing != "kept" else line
