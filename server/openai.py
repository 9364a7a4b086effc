"""The answer in the shapes of OpenAI's chat completions: one completion, or its chunks as the search goes on."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

from server.content import Content, Pieces, content
from server.errors import Failure
from server.facts import Facts, Json, event_facts
from server.sse import DONE
from swires.estimate import Estimate
from swires.events import Event, SearchFinished
from swires.parser import Piece
from swires.result import SearchResult
from swires.stages import Stage
from swires.types import Problem, TokenLogprob, Trajectory

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has not."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """How one request is to be answered. The earlier stages are told under each of `reasoning_names`."""

    last: ClassVar[bytes] = DONE

    model: str
    facts: Facts
    raw: bool = False
    stops: tuple[str, ...] = ()
    logprobs: bool = False
    events: bool = False
    include_usage: bool = False
    reasoning_names: tuple[str, ...] = ("reasoning",)
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, result: SearchResult) -> Json:
        contents = [self._content(answer) for answer in result.answers]
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(index, told) for index, told in enumerate(contents)],
            "usage": self._usage(result),
            "swires": self._search(result),
        }

    def dry_run(self, problem: Problem, estimate: Estimate) -> Json:
        """A completion that says nothing but what one would cost."""
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(0, Content("", (), finished=True, num_tokens=0, logprobs=()))],
            "usage": _usage(problem.num_prompt_tokens, 0, 0),
            "swires": {"id": self.id, **self.facts.dry_run(estimate)},
        }

    async def dry_chunks(self, problem: Problem, estimate: Estimate) -> AsyncGenerator[Json, None]:
        yield self._chunk({"role": "assistant", "content": ""})
        yield self._chunk({}, finish_reason="stop", swires={"id": self.id, **self.facts.dry_run(estimate)})
        if self.include_usage:
            yield self._usage_chunk(_usage(problem.num_prompt_tokens, 0, 0))

    async def chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Json, None]:
        """The joined deltas are the messages of `whole`, whatever the search does on its way."""
        deltas = Deltas(Pieces(raw=self.raw, stops=self.stops))
        started = False
        async with aclosing(events):
            async for event in events:
                if not started:
                    yield self._chunk({"role": "assistant", "content": ""})
                    started = True
                if self.events and (facts := event_facts(event)):
                    yield self._chunk({}, swires=facts)
                for delta in deltas.of(event):
                    yield self._chunk(self._named(delta))
                if isinstance(event, SearchFinished):
                    for chunk in self._last_chunks(event.result):
                        yield chunk

    def failed(self, failure: Failure) -> list[Json]:
        """Without `choices`, client loops would break."""
        return [{"choices": [], **failure.body}]

    def _last_chunks(self, result: SearchResult) -> Iterator[Json]:
        """Further answers as a whole, and the end of the first."""
        for index, answer in enumerate(result.others, start=1):
            told = self._content(answer)
            yield self._chunk({"role": "assistant", "content": ""}, index=index)
            if told.reasoning:
                yield self._chunk(self._named({"reasoning": "\n\n".join(told.reasoning)}), index=index)
            if told.text:
                yield self._chunk({"content": told.text}, index=index)
            yield self._end(told, index=index)
        event = {"event": "search_finished"} if self.events else {}
        yield self._end(self._content(result.answer), index=0, swires={**event, **self._search(result)})
        if self.include_usage:
            yield self._usage_chunk(self._usage(result))

    def _end(self, told: Content, *, index: int, **more: Json) -> Json:
        finish_reason = _finish_reason(told)
        return self._chunk({}, index=index, logprobs=self._logprobs(told), finish_reason=finish_reason, **more)

    def _choice(self, index: int, told: Content) -> Json:
        message = self._named({"content": told.text, "reasoning": "\n\n".join(told.reasoning) or None})
        return {
            "index": index,
            "message": {"role": "assistant", **message, "refusal": None},
            "logprobs": self._logprobs(told),
            "finish_reason": _finish_reason(told),
        }

    def _chunk(
        self,
        delta: Json,
        *,
        index: int = 0,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
        **more: Json,
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self.include_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage, **more}

    def _usage_chunk(self, usage: Json) -> Json:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _search(self, result: SearchResult) -> Json:
        return {"id": self.id, **self.facts.search(result)}

    def _content(self, answer: Trajectory) -> Content:
        return content(answer, raw=self.raw, stops=self.stops)

    def _named(self, told: Json) -> Json:
        """`reasoning` under all of its names."""
        return {
            name: value
            for key, value in told.items()
            for name in (self.reasoning_names if key == "reasoning" else (key,))
        }

    def _logprobs(self, told: Content) -> Json | None:
        return {"content": told_logprobs(told.logprobs), "refusal": None} if self.logprobs else None

    def _usage(self, result: SearchResult) -> Json:
        """All generated tokens are counted; those not in a `content` are the reasoning."""
        tokens = result.tokens
        in_content = tokens.winner if self.raw else sum(self._content(each).num_tokens for each in result.answers)
        return _usage(tokens.prompt, tokens.generated, in_content)


class Deltas:
    """The pieces of an answer as deltas: the conclusion as `content`, the earlier stages as `reasoning`, a blank line
    between."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._reasoned = False

    def of(self, event: Event) -> list[Json]:
        return [self._delta(piece) for piece in self._pieces.of(event)]

    def _delta(self, piece: Piece) -> Json:
        if piece.stage is Stage.CONCLUSION:
            return {"content": piece.text}
        blank_line = "\n\n" if piece.begins and self._reasoned else ""
        self._reasoned = True
        return {"reasoning": blank_line + piece.text}


def _finish_reason(told: Content) -> str:
    """`length` too where a limit ended the search between stages, with no room for a conclusion."""
    return "stop" if told.finished else "length"


def _usage(num_prompt_tokens: int, num_generated: int, num_in_content: int) -> Json:
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_generated,
        "total_tokens": num_prompt_tokens + num_generated,
        "completion_tokens_details": {"reasoning_tokens": num_generated - num_in_content},
    }


def told_logprobs(tokens: Iterable[TokenLogprob]) -> list[Json]:
    return [
        {**_told(token.text, token.logprob), "top_logprobs": [_told(text, logprob) for text, logprob in token.top]}
        for token in tokens
    ]


def _told(text: str, logprob: float) -> Json:
    return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(text.encode())}
