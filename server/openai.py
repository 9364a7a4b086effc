"""The answer in OpenAI's shapes: one completion, or its chunks as the search goes on."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from swires.estimate import Estimate
from swires.events import (
    CandidateFinished,
    CandidateScored,
    Event,
    Retraced,
    SearchFinished,
    StageChosen,
    StageLeading,
    StageStarted,
    TextCommitted,
)
from swires.parser import Piece, Splitter
from swires.result import Node, SearchResult
from swires.stages import Stage
from swires.types import Problem

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is to be answered, and what the answer repeats of it."""

    model: str
    policy: str
    preset: str
    scorer: str
    numbers: Mapping[str, float | None]
    budget: Mapping[str, float]
    raw: bool = False
    trace: bool = False
    events: bool = False
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, result: SearchResult) -> Json:
        content, reasoning = self._texts(result)
        message = {"role": "assistant", "content": content, "reasoning": reasoning, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(result)}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": self._usage(result),
            "swires": self._summary(result),
        }

    def dry_run(self, problem: Problem, estimate: Estimate) -> Json:
        """A completion that says nothing but what one would cost."""
        message = {"role": "assistant", "content": "", "reasoning": None, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": unanswered(problem),
            "swires": {**self._plan(), "dry_run": estimated(estimate)},
        }

    async def dry_chunks(self, problem: Problem, estimate: Estimate) -> AsyncGenerator[Json, None]:
        yield self._chunk({"role": "assistant", "content": ""})
        yield self._chunk({}, finish_reason="stop", swires={**self._plan(), "dry_run": estimated(estimate)})
        if self.include_usage:
            yield self._usage_chunk(unanswered(problem))

    async def chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Json, None]:
        """The joined deltas are the message of `completion`, whatever the search does on its way."""
        deltas = Deltas(raw=self.raw)
        started = False
        async with aclosing(events):
            async for event in events:
                if not started:
                    yield self._chunk({"role": "assistant", "content": ""})
                    started = True
                if self.events and (facts := event_facts(event)):
                    yield self._chunk({}, swires=facts)
                for delta in deltas.of(event):
                    yield self._chunk(delta)
                if isinstance(event, SearchFinished):
                    for chunk in self._last_chunks(event.result):
                        yield chunk

    def _last_chunks(self, result: SearchResult) -> list[Json]:
        summary = {**({"event": "search_finished"} if self.events else {}), **self._summary(result)}
        last = self._chunk({}, finish_reason=finish_reason(result), swires=summary)
        return [last, self._usage_chunk(self._usage(result))] if self.include_usage else [last]

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, **more: Json) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.include_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage, **more}

    def _usage_chunk(self, usage: Json) -> Json:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _texts(self, result: SearchResult) -> tuple[str, str | None]:
        """Content and reasoning."""
        if self.raw:
            return result.answer.text, None
        sections = result.sections
        content = "".join(section.text for section in sections if section.stage is Stage.CONCLUSION)
        reasoning = "\n\n".join(section.text for section in sections if section.stage is not Stage.CONCLUSION)
        return content, reasoning or None

    def _usage(self, result: SearchResult) -> Json:
        """All generated tokens are counted; those not in `content` are the reasoning."""
        tokens = result.tokens
        concluding = sum(part.num_tokens for part in result.sections if part.stage is Stage.CONCLUSION)
        in_content = tokens.winner if self.raw else concluding
        return {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.generated,
            "total_tokens": tokens.prompt + tokens.generated,
            "completion_tokens_details": {"reasoning_tokens": tokens.generated - in_content},
        }

    def _plan(self) -> Json:
        return {
            "id": self.id,
            "policy": self.policy,
            "preset": self.preset,
            "scorer": self.scorer,
            "numbers": self.numbers,
            "budget": self.budget,
        }

    def _summary(self, result: SearchResult) -> Json:
        return {
            **self._plan(),
            "scorer_degraded": result.scorer_degraded,
            "stages": [
                {"stage": part.stage.name, "text": part.text, "score": part.score, "tokens": part.num_tokens}
                for part in result.sections
            ],
            "generations": result.generations,
            "retraces": result.retraces,
            "score": result.answer.score,
            "accepted": result.accepted,
            "stopped_by": result.stopped_by,
            "tokens": asdict(result.tokens),
            "seconds": round(result.seconds, 3),
            "trace": [traced(node) for node in result.nodes] if self.trace else None,
        }


class Deltas:
    """Committed text as deltas: the conclusion as `content`, the earlier stages as `reasoning`, a blank line between;
    `raw`, all of it as `content`."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._splitter = Splitter()
        self._reasoned = False

    def of(self, event: Event) -> list[Json]:
        match event:
            case TextCommitted(text) if self._raw:
                return [{"content": text}]
            case TextCommitted(text):
                return [self._delta(piece) for piece in self._splitter.feed(text)]
            case SearchFinished() if not self._raw:
                return [self._delta(piece) for piece in self._splitter.close()]
        return []

    def _delta(self, piece: Piece) -> Json:
        if piece.stage is Stage.CONCLUSION:
            return {"content": piece.text}
        blank_line = "\n\n" if piece.begins and self._reasoned else ""
        self._reasoned = True
        return {"reasoning": blank_line + piece.text}


def finish_reason(result: SearchResult) -> str:
    """`length` too where a limit ended the search between stages, with no room for a conclusion."""
    last = result.answer.last
    return "stop" if last.finish_reason == "stop" and last.stage is Stage.CONCLUSION else "length"


def unanswered(problem: Problem) -> Json:
    """The usage of a request that was rendered and no more."""
    num_tokens = problem.num_prompt_tokens
    return {
        "prompt_tokens": num_tokens,
        "completion_tokens": 0,
        "total_tokens": num_tokens,
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def estimated(estimate: Estimate) -> Json:
    costs = {"least": estimate.least, "expected": estimate.expected, "greatest": estimate.greatest}
    rounded = {
        name: {"generations": round(cost.generations, 1), "tokens": round(cost.tokens)} for name, cost in costs.items()
    }
    return {**rounded, "lengths": {stage.name: length for stage, length in estimate.lengths.items()}}


def traced(node: Node) -> Json:
    candidate = node.candidate
    return {
        "id": candidate.id,
        "parent": node.parent,
        "stage": candidate.stage.name,
        "text": candidate.text,
        "tokens": len(candidate.token_ids),
        "finish_reason": candidate.finish_reason,
        "logprob": candidate.logprob,
        "score": node.score,
        "fate": node.fate,
    }


def event_facts(event: Event) -> Json | None:
    """An event as a stream tells it; None for what the stream tells in other ways."""
    match event:
        case StageStarted(stage, parents, num_candidates):
            return {"event": "stage_started", "stage": stage.name, "parents": parents, "candidates": num_candidates}
        case CandidateFinished(candidate, parent):
            return {
                "event": "candidate_finished",
                "id": candidate.id,
                "parent": parent,
                "stage": candidate.stage.name,
                "text": candidate.text,
                "tokens": len(candidate.token_ids),
                "finish_reason": candidate.finish_reason,
            }
        case CandidateScored(id, stage, score):
            return {"event": "candidate_scored", "id": id, "stage": stage.name, "score": score}
        case StageLeading(id, stage, score):
            return {"event": "stage_leading", "id": id, "stage": stage.name, "score": score}
        case Retraced(to, void):
            return {"event": "retraced", "to": to.name, "void": [stage.name for stage in void]}
        case StageChosen(candidate, score):
            return {"event": "stage_chosen", "id": candidate.id, "stage": candidate.stage.name, "score": score}
        case TextCommitted() | SearchFinished():
            return None
