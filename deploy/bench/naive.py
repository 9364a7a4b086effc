"""The schedule as a user of vLLM's own server drives it: chat calls that continue the assistant's message."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, TypeAlias, TypeVar

import aiohttp

from deploy.bench.closed_loop import Answered
from deploy.bench.lengths import length
from deploy.bench.questions import Question
from deploy.bench.schedule import conclusion as concluded
from deploy.bench.schedule import follow, sampling
from server.checkpoint import Checkpoint
from swires.protocols import SearchPolicy
from swires.stages import Stage
from swires.types import Candidate, Expand, FinishReason, Trajectory

T = TypeVar("T")
Json: TypeAlias = dict[str, Any]
Calls: TypeAlias = Literal["stage", "candidate", "gathered"]
"""One call a stage with `n`; one call a candidate, each awaited before the next; the same at once."""

NUM_LIKELIEST = 5
NEVER = -20.0
"""In nats, of a label that is not among the likeliest."""


@dataclass(frozen=True, slots=True)
class Sampled:
    texts: tuple[tuple[str, FinishReason], ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Chat:
    """vLLM's chat completions of one checkpoint. Tags are tokens that it would leave out of the text unless told."""

    session: aiohttp.ClientSession
    url: str
    checkpoint: Checkpoint
    fixed: bool

    async def sample(self, question: Question, expand: Expand, text: str, n: int) -> Sampled:
        """Continue the answer's `text` through the stage."""
        temperature, top_p = sampling(expand)
        body = {"n": n, "temperature": temperature, "top_p": top_p, **self.ends(expand.stage)}
        told = await self.post(question, text, body)
        texts = [(choice["message"]["content"], choice["finish_reason"]) for choice in told["choices"]]
        whole: FinishReason = "stop"
        return Sampled(
            tuple((text, whole if self.fixed or reason == "stop" else "length") for text, reason in texts),
            told["usage"]["completion_tokens"],
        )

    def ends(self, stage: Stage) -> Json:
        if self.fixed:
            before = Stage(stage - 1) if stage else None
            after = 0 if before is None else length(self.checkpoint.lengths, before)
            return {"ignore_eos": True, "max_completion_tokens": length(self.checkpoint.lengths, stage, after=after)}
        return {"stop": [stage.closing], "include_stop_str_in_output": True}

    async def verdict(self, question: Question, stage: Stage, text: str) -> float:
        """The score that the server's verifier gives, from one more token."""
        assert self.checkpoint.verifier is not None
        body = {"temperature": 0, "max_completion_tokens": 1, "logprobs": True, "top_logprobs": NUM_LIKELIEST}
        told = await self.post(question, text + self.checkpoint.verifier.ask, body)
        return verdict(told["choices"][0]["logprobs"]["content"][0]["top_logprobs"], self.checkpoint, stage)

    async def post(self, question: Question, text: str, body: Mapping[str, Any]) -> Json:
        messages = [question.message()]
        if text:
            messages.append({"role": "assistant", "content": text})
        more = {"continue_final_message": True, "add_generation_prompt": False} if text else {}
        request = {"model": "demo", "messages": messages, "skip_special_tokens": False, **more, **body}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=request) as reply:
            reply.raise_for_status()
            told: Json = await reply.json()
            return told


def verdict(likeliest: list[Json], checkpoint: Checkpoint, stage: Stage) -> float:
    """In deviations from what is usual for the stage."""
    assert checkpoint.verifier is not None
    logprobs = {each["token"]: each["logprob"] for each in likeliest}
    usual = checkpoint.calibration["verifier"][stage]
    yes, no = (logprobs.get(label, NEVER) for label in (checkpoint.verifier.yes, checkpoint.verifier.no))
    return float(yes - no - usual.mean) / usual.std


@dataclass(slots=True)
class Search:
    """One search under way."""

    chat: Chat
    question: Question
    calls: Calls
    tokens: int = 0
    first_s: float | None = None
    started: float = field(default_factory=time.perf_counter)
    ids: Callable[[], int] = field(default_factory=lambda: count().__next__)

    async def run(self, policy: SearchPolicy) -> Answered:
        answer, generations = await follow(policy, self.grow)
        seconds = time.perf_counter() - self.started
        assert self.first_s is not None
        return Answered(concluded(answer.text), self.tokens, generations, self.first_s, seconds)

    async def grow(self, expand: Expand) -> tuple[Trajectory, ...]:
        if self.calls == "stage":
            grown = await asyncio.gather(*(self.sample(expand, parent, expand.samples) for parent in expand.parents))
        else:
            calls = [self.sample(expand, parent, 1) for parent in expand.parents for _ in range(expand.samples)]
            grown = await asyncio.gather(*calls) if self.calls == "gathered" else await in_turn(calls)
        return tuple(each for some in grown for each in some)

    async def sample(self, expand: Expand, parent: Trajectory, n: int) -> list[Trajectory]:
        """Sampled by one call, then scored by one call each."""
        sampled = await self.chat.sample(self.question, expand, parent.text, n)
        self.tokens += sampled.tokens
        self.first_s = self.first_s or time.perf_counter() - self.started
        grown = [Candidate(self.ids(), expand.stage, text, (), reason) for text, reason in sampled.texts]
        if not expand.scored:
            return [parent.then(each) for each in grown]
        scores = [self.score(parent.text, each) for each in grown]
        known = await (in_turn(scores) if self.calls == "candidate" else asyncio.gather(*scores))
        return [parent.then(each, score) for each, score in zip(grown, known, strict=True)]

    async def score(self, before: str, candidate: Candidate) -> float:
        if candidate.finish_reason != "stop":
            return -math.inf
        return await self.chat.verdict(self.question, candidate.stage, before + candidate.text)


async def in_turn(calls: Sequence[Awaitable[T]]) -> list[T]:
    return [await call for call in calls]
