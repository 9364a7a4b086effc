"""The answer in the shapes of OpenAI's Responses API: one response, or its events as the search goes on."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar, Literal, TypeAlias

from server.content import Content, Pieces, content
from server.errors import Failure
from server.facts import Facts, Json, event_facts
from server.openai import told_logprobs
from server.responses_schemas import ResponsesRequest
from swires.estimate import Estimate
from swires.events import Event, SearchFinished, TextCommitted
from swires.parser import Piece
from swires.result import SearchResult
from swires.stages import Stage
from swires.types import Problem, TokenLogprob

Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class ResponseReply:
    """How one request is to be answered; `temperature` and `top_p` are what it is sampled with."""

    last: ClassVar[bytes] = b""

    asked: ResponsesRequest
    facts: Facts
    temperature: float
    top_p: float
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    numbers: Iterator[int] = field(default_factory=count, repr=False)  # of the events of a stream

    def whole(self, result: SearchResult) -> Json:
        output, pieces = Output(self.id), self._pieces()
        for event in (TextCommitted(result.answer.text), SearchFinished(result)):
            for piece in pieces.of(event):
                output.grow(piece)
        shown = self._content(result)
        output.finish(shown)
        return self._finished(result, shown, output)

    def dry_run(self, problem: Problem, estimate: Estimate) -> Json:
        """A response that says nothing but what one would cost."""
        usage = _usage(problem.num_prompt_tokens, 0, 0)
        return self._response("completed", usage=usage, swires={"id": self.id, **self.facts.dry_run(estimate)})

    async def dry_chunks(self, problem: Problem, estimate: Estimate) -> AsyncGenerator[Json, None]:
        for chunk in self._begun():
            yield chunk
        yield self._event("response.completed", response=self.dry_run(problem, estimate))

    async def chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Json, None]:
        """Together they tell the response of `whole`, whatever the search does on its way."""
        output, pieces = Output(self.id), self._pieces()
        started = False
        async with aclosing(events):
            async for event in events:
                if not started:
                    for chunk in self._begun():
                        yield chunk
                    started = True
                if self.asked.swires.events and (facts := event_facts(event)):
                    yield self._event(f"swires.{facts['event']}", **facts)
                for piece in pieces.of(event):
                    for told in output.grow(piece):
                        yield self._numbered(told)
                if isinstance(event, SearchFinished):
                    for chunk in self._ended(event.result, output):
                        yield chunk

    def failed(self, failure: Failure) -> Iterator[Json]:
        yield self._event("error", code=failure.code, message=failure.message, param=failure.param)
        error = {"code": "server_error", "message": failure.message}
        yield self._event("response.failed", response=self._response("failed", error=error))

    def _begun(self) -> Iterator[Json]:
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=self._response("in_progress"))

    def _ended(self, result: SearchResult, output: "Output") -> Iterator[Json]:
        shown = self._content(result)
        for told in output.finish(shown):
            yield self._numbered(told)
        response = self._finished(result, shown, output)
        yield self._event(f"response.{response['status']}", response=response)

    def _finished(self, result: SearchResult, shown: Content, output: "Output") -> Json:
        tokens = result.tokens
        return self._response(
            "completed" if shown.finished else "incomplete",
            output=output.items,
            usage=_usage(tokens.prompt, tokens.generated, shown.num_tokens),
            swires={"id": self.id, **self.facts.search(result)},
        )

    def _response(self, status: Status, **more: object) -> Json:
        asked = self.asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": None,
            "metadata": asked.metadata or {},
            "model": asked.model,
            "output": [],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "prompt_cache_key": asked.prompt_cache_key,
            "reasoning": {"effort": asked.effort, "summary": None},
            "safety_identifier": asked.safety_identifier,
            "service_tier": "default",
            "store": False,
            "temperature": self.temperature,
            "text": {"format": self._format(), "verbosity": "medium"},
            "tool_choice": asked.tool_choice or "auto",
            "tools": [],
            "top_logprobs": asked.top_logprobs or 0,
            "top_p": self.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": asked.user,
            **more,
        }

    def _format(self) -> Json:
        asked = self.asked.text.format
        return {"type": "text"} if asked is None else asked.model_dump(by_alias=True, exclude_none=True)

    def _event(self, kind: str, **told: object) -> Json:
        return self._numbered({"type": kind, **told})

    def _numbered(self, told: Json) -> Json:
        return {"type": told["type"], "sequence_number": next(self.numbers), **told}

    def _pieces(self) -> Pieces:
        return Pieces(raw=self.asked.swires.raw, stops=())

    def _content(self, result: SearchResult) -> Content:
        return content(result.answer, raw=self.asked.swires.raw, stops=())


@dataclass(frozen=True, slots=True)
class Item:
    """An output item that grows: the message or, of an earlier stage, a reasoning item."""

    id: str
    stage: Stage
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def kind(self) -> str:
        """Of its part, and of the events that tell of it."""
        return "output_text" if self.stage is Stage.CONCLUSION else "reasoning_text"

    @property
    def part(self) -> Json:
        more = {} if self.stage is not Stage.CONCLUSION else {"annotations": [], **self.logprobs_told}
        return {"type": self.kind, "text": self.text, **more}

    @property
    def logprobs_told(self) -> Json:
        return {} if self.stage is not Stage.CONCLUSION else {"logprobs": told_logprobs(self.logprobs)}

    def told(self, status: Status, *parts: Json) -> Json:
        if self.stage is Stage.CONCLUSION:
            kind: Json = {"type": "message", "role": "assistant"}
        else:
            kind = {"type": "reasoning", "summary": [], "swires": {"stage": self.stage.name}}
        return {"id": self.id, **kind, "status": status, "content": list(parts)}


class Output:
    """The items of a response, one after the other as its text grows, and what a stream tells of that: events, but for
    their numbers."""

    def __init__(self, response: str) -> None:
        self.items: list[Json] = []
        self._stem = response.removeprefix("resp_")
        self._open: Item | None = None

    def grow(self, piece: Piece) -> list[Json]:
        item, begun = self._open, list[Json]()
        if item is None or item.stage is not piece.stage or (piece.begins and item.text):
            item, begun = self._begin(piece.stage)
        self._open = replace(item, text=item.text + piece.text)
        return [*begun, self._told(f"response.{item.kind}.delta", delta=piece.text, **item.logprobs_told)]

    def finish(self, shown: Content) -> list[Json]:
        """Ends with the message, however little there is of it; one that a stage came after has ended before, without
        its logprobs."""
        if any(item["type"] == "message" for item in self.items):
            return self._close("completed")
        item, begun = self._open, list[Json]()
        if item is None or item.stage is not Stage.CONCLUSION:
            item, begun = self._begin(Stage.CONCLUSION)
        self._open = replace(item, logprobs=shown.logprobs)
        return [*begun, *self._close("completed" if shown.finished else "incomplete")]

    def _begin(self, stage: Stage) -> tuple[Item, list[Json]]:
        closed = self._close("completed")
        self._open = item = Item(f"{_prefix(stage)}_{self._stem}_{len(self.items)}", stage)
        added = {
            "type": "response.output_item.added",
            "output_index": len(self.items),
            "item": item.told("in_progress"),
        }
        return item, [*closed, added, self._told("response.content_part.added", part=item.part)]

    def _close(self, status: Status) -> list[Json]:
        if (item := self._open) is None:
            return []
        whole = item.told(status, item.part)
        told = [
            self._told(f"response.{item.kind}.done", text=item.text, **item.logprobs_told),
            self._told("response.content_part.done", part=item.part),
            {"type": "response.output_item.done", "output_index": len(self.items), "item": whole},
        ]
        self.items.append(whole)
        self._open = None
        return told

    def _told(self, kind: str, **told: object) -> Json:
        """Of the part of the item that is open."""
        assert self._open is not None
        return {"type": kind, "item_id": self._open.id, "output_index": len(self.items), "content_index": 0, **told}


def _prefix(stage: Stage) -> str:
    return "msg" if stage is Stage.CONCLUSION else "rs"


def _usage(num_prompt_tokens: int, num_generated: int, num_in_message: int) -> Json:
    """Of caches, `swires` tells: what they held was asked for by many requests, not by one."""
    return {
        "input_tokens": num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": num_generated,
        "output_tokens_details": {"reasoning_tokens": num_generated - num_in_message},
        "total_tokens": num_prompt_tokens + num_generated,
    }
