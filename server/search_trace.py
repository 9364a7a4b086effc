"""The spans of one search: its turn, its stages, their candidates; what engine and scorer do hangs under the stages."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic_core import to_json

from server.ending import Ending
from server.span import CURRENT, Attributes, Span
from swires.events import CandidateFinished, Event, Retraced, StageChosen, StageStarted
from swires.plan import SearchPlan
from swires.result import Node, SearchResult
from swires.types import Candidate


@dataclass(frozen=True, slots=True)
class Finished:
    """A candidate, and the stage in which it was sampled from the stage's beginning on."""

    candidate: Candidate
    parent: int | None
    stage: Span
    start_ns: int
    end_ns: int


class SearchTrace:
    """`tell` it the events of the search as they happen, in the search's own task: what this begins then finds its
    stage there. Of texts it tells none, unless `content` says so."""

    def __init__(self, within: Span, plan: SearchPlan, *, model: str, preset: str, content: bool) -> None:
        self._span = within.child(f"chat {model}", _asked(plan, model, preset))
        self._turn: Span | None = self._span.child("turn")
        self._stage: Span | None = None
        self._start_ns = 0
        self._finished: list[Finished] = []
        self._content = content
        if content:
            self._span.set({"gen_ai.input.messages": _told(plan.problem.messages)})

    @classmethod
    def begun(cls, plan: SearchPlan, *, model: str, preset: str, content: bool) -> Self | None:
        """None where nothing is traced."""
        within = CURRENT.get()
        return None if within is None else cls(within, plan, model=model, preset=preset, content=content)

    def tell(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._begin(event)
            case CandidateFinished(candidate, parent):
                assert self._stage is not None
                self._finished.append(Finished(candidate, parent, self._stage, self._start_ns, time.time_ns()))
            case Retraced(to, void):
                self._span.event("retraced", {"swires.to": to.name, "swires.void": [stage.name for stage in void]})
            case StageChosen(candidate, score):
                self._choose(candidate, score)

    def _choose(self, candidate: Candidate, score: float | None) -> None:
        told: Attributes = {
            "swires.stage": candidate.stage.name,
            "swires.candidate": candidate.id,
            "swires.score": score,
        }
        self._span.event("stage chosen", told)

    def _begin(self, event: StageStarted) -> None:
        self._leave()
        self._start_ns = time.time_ns()
        told: Attributes = {
            "swires.stage": event.stage.name,
            "swires.candidates": event.num_candidates,
            "swires.parents": [str(each) for each in event.parents],
        }
        self._stage = self._span.child(event.stage.name, told, start_ns=self._start_ns)
        CURRENT.set(self._stage)

    def _leave(self, error: BaseException | None = None) -> None:
        for each in (self._turn, self._stage):
            if each is not None:
                each.end(error)
        self._turn = self._stage = None

    def end(self, ending: Ending) -> None:
        nodes = {} if ending.result is None else {node.candidate.id: node for node in ending.result.nodes}
        error = asyncio.CancelledError() if ending.outcome == "cancelled" else ending.error
        self._leave(error)
        for finished in self._finished:
            self._tell_candidate(finished, nodes.get(finished.candidate.id))
        self._span.set({"swires.outcome": ending.outcome})
        if ending.result is not None:
            self._span.set(_found(ending.result))
            if self._content:
                self._span.set({"gen_ai.output.messages": _said(ending.result)})
        self._span.end(error)

    def _tell_candidate(self, finished: Finished, node: Node | None) -> None:
        candidate = finished.candidate
        told: Attributes = {
            "swires.candidate": candidate.id,
            "swires.parent": finished.parent,
            "swires.score": None if node is None else node.score,
            "swires.fate": None if node is None else node.fate,
            "swires.text": candidate.text if self._content else None,
            "gen_ai.usage.output_tokens": len(candidate.token_ids),
            "gen_ai.response.finish_reasons": [candidate.finish_reason],
        }
        finished.stage.child("candidate", told, start_ns=finished.start_ns).end(end_ns=finished.end_ns)


def _asked(plan: SearchPlan, model: str, preset: str) -> Attributes:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "swires",
        "gen_ai.request.model": model,
        "gen_ai.request.temperature": plan.sampling.temperature,
        "gen_ai.request.top_p": plan.sampling.top_p,
        "gen_ai.request.max_tokens": plan.sampling.max_tokens,
        "gen_ai.request.seed": plan.sampling.seed,
        "gen_ai.request.choice.count": 1 + plan.num_others,
        "swires.policy": plan.policy.name,
        "swires.preset": preset,
    }


def _found(result: SearchResult) -> Attributes:
    tokens, answers = result.tokens, (result.answer, *result.others)
    return {
        "gen_ai.usage.input_tokens": tokens.prompt,
        "gen_ai.usage.output_tokens": tokens.generated,
        "gen_ai.usage.cache_read.input_tokens": tokens.cached,
        "gen_ai.response.finish_reasons": [answer.last.finish_reason for answer in answers if answer.candidates],
        "swires.generations": result.generations,
        "swires.retraces": result.retraces,
        "swires.score": result.answer.score,
        "swires.accepted": result.accepted,
        "swires.stopped_by": result.stopped_by,
        "swires.scorer_degraded": result.scorer_degraded,
        "swires.tokens.answer": tokens.winner,
        "swires.tokens.scored": tokens.scored,
    }


def _said(result: SearchResult) -> str:
    answers = (result.answer, *result.others)
    return _told([{"role": "assistant", "parts": [{"type": "text", "content": each.text}]} for each in answers])


def _told(messages: Sequence[Any]) -> str:
    """As JSON, in the shape that the conventions give messages; of an image only that it was there."""
    return to_json([_message(message) for message in messages]).decode()


def _message(message: Any) -> dict[str, Any]:
    parts = message.get("parts") or [
        {"type": "text", "content": part["text"]} if part["type"] == "text" else {"type": "image"}
        for part in message["content"]
    ]
    return {"role": message["role"], "parts": parts}
