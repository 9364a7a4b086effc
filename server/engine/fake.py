"""An engine for tests of what stands above it: well-formed stages without a model, and the same ones every time."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from math import log
from random import Random
from types import TracebackType
from typing import Any, Self

from PIL.Image import Image

from server.engine.labels import LabelRead
from server.engine.merge import merged
from swires.errors import InvalidPlan
from swires.protocols import Chunk
from swires.stages import TAGS, Stage
from swires.types import FinishReason, Problem, Sampling, TokenLogprob

FIRST_TAG_ID = 0x110000  # beyond the characters, which are their own ids
TOKENS_PER_IMAGE = 16
TOKENS_PER_CHUNK = 16
TOKENS_PER_BLOCK = 32


async def _next_turn() -> None:
    await asyncio.sleep(0)


class FakeEngine:
    """Each character is a token, and so is each stage tag that it writes.

    What it writes depends on prompt, prefix, seed and index alone. `step` is awaited before each token: it may slow the
    engine down, hold it, or make it fail.
    """

    def __init__(self, *, step: Callable[[], Awaitable[object]] = _next_turn, max_model_len: int = 4096) -> None:
        self.max_model_len = max_model_len
        self.max_logprobs = 20
        self.version = "fake"
        self.alive = False
        self.num_running = 0
        self._step = step

    async def __aenter__(self) -> Self:
        self.alive = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alive = False

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        """Raises InvalidPlan where vLLM would: too many tokens."""
        prompt = repr([*messages, *(image.tobytes() for image in images)])
        num_tokens = len(self.encode(repr(messages))) + TOKENS_PER_IMAGE * len(images)
        if num_tokens >= self.max_model_len:
            raise InvalidPlan(f"the messages come to {num_tokens} tokens", field="messages")
        return Problem(prompt, num_tokens)

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`."""
        samples = [self._sample(problem, prefix, stage, index, sampling, live) for index in range(n)]
        async with aclosing(merged(samples)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _sample(
        self, problem: Problem, prefix: tuple[int, ...], stage: Stage, index: int, sampling: Sampling, live: bool
    ) -> AsyncGenerator[Chunk, None]:
        chance = _chance(problem, prefix, None if sampling.temperature == 0 else (sampling.seed or 0) + index)
        ids, finish_reason = self._written(problem, prefix, stage, sampling, chance)
        interval = 1 if live else TOKENS_PER_CHUNK
        num_prompt_tokens = problem.num_prompt_tokens + len(prefix)
        self.num_running += 1
        try:
            sent = 0
            for end in range(1, len(ids)):
                await self._step()
                if end - sent == interval:
                    yield Chunk(index, self.decode(ids[sent:end]) if live else "", ids[sent:end])
                    sent = end
            await self._step()
        finally:
            self.num_running -= 1
        logprobs = [log(chance.uniform(0.5, 1.0)) for _ in ids]
        yield Chunk(
            index,
            self.decode(ids[sent:] if live else ids),
            ids[sent:],
            finish_reason,
            sum(logprobs) if sampling.likelihood else None,
            num_prompt_tokens,
            _full_blocks(num_prompt_tokens) if prefix else 0,
            () if sampling.top_logprobs is None else tuple(self._told(ids, logprobs, sampling.top_logprobs)),
        )

    def _told(self, ids: Sequence[int], logprobs: Sequence[float], num_top: int) -> Iterator[TokenLogprob]:
        for token, logprob in zip(ids, logprobs, strict=True):
            others = (("?" * rank, logprob - rank) for rank in range(1, num_top))
            top = [(self.decode([token]), logprob), *others]
            yield TokenLogprob(self.decode([token]), logprob, tuple(top[:num_top]))

    def _written(
        self, problem: Problem, prefix: tuple[int, ...], stage: Stage, sampling: Sampling, chance: Random
    ) -> tuple[tuple[int, ...], FinishReason]:
        if sampling.json_schema is not None and stage is Stage.CONCLUSION:
            text = _bound(json.loads(sampling.json_schema), chance)
        else:
            text = _rest(self.decode(prefix), stage, chance)
        ends = [text.index(stop) + len(stop) for stop in sampling.stop if stop in text]
        ids = _with_tags(text[: min(ends, default=len(text))])
        room = min(sampling.max_tokens, max(0, self.max_model_len - problem.num_prompt_tokens - len(prefix)))
        return ids[:room], "length" if len(ids) > room else "stop"

    async def check_schema(self, schema: str) -> None:
        """See `server.serving_engine.ServingEngine`."""
        try:
            _instance(json.loads(schema), 0)
        except (KeyError, TypeError) as error:
            raise InvalidPlan("the schema cannot be kept to", field="json_schema") from error

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        """See `server.engine.labels.LabelReader`."""
        await self._step()
        return tuple(self._read(problem, prefix, labels) for prefix in prefixes)

    def _read(self, problem: Problem, prefix: tuple[int, ...], labels: tuple[int, ...]) -> LabelRead:
        chance = _chance(problem, prefix, None)
        weights = [chance.random() for _ in range(len(labels) + 1)]  # the last for all other tokens
        num_tokens = problem.num_prompt_tokens + len(prefix)
        return LabelRead(
            tuple(log(weight / sum(weights)) for weight in weights[:-1]), num_tokens, _full_blocks(num_tokens)
        )

    def encode(self, text: str) -> tuple[int, ...]:
        """What a user types: characters only."""
        return tuple(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(TAGS[token - FIRST_TAG_ID] if token >= FIRST_TAG_ID else chr(token) for token in ids)


def _chance(problem: Problem, prefix: tuple[int, ...], seed: int | None) -> Random:
    return Random(repr((problem.prompt, prefix, seed)))


def _full_blocks(num_tokens: int) -> int:
    return (num_tokens - 1) // TOKENS_PER_BLOCK * TOKENS_PER_BLOCK


def _rest(text: str, stage: Stage, chance: Random) -> str:
    """What an answer that begins with `text` lacks through `stage`."""
    missing = [each for each in Stage if each <= stage and each.closing not in text]
    return "".join(_rest_of_stage(text, each, chance) for each in missing)


def _rest_of_stage(text: str, stage: Stage, chance: Random) -> str:
    sentences = _sentences(stage, chance)
    if stage.opening not in text:
        return f"{stage.opening}{''.join(sentences)}{stage.closing}"
    num_written = text.partition(stage.opening)[2].count(".")
    return f"{''.join(sentences[num_written:])}{stage.closing}"


def _sentences(stage: Stage, chance: Random) -> list[str]:
    number = chance.randint(1, 9)
    thing = f"{chance.choice(['red', 'green', 'blue'])} {chance.choice(['circles', 'squares', 'triangles'])}"
    match stage:
        case Stage.SUMMARY:
            return [f"I will look for {thing}.", " Then I will count."]
        case Stage.CAPTION:
            return [f"There are {number} {thing}.", f" They are {chance.choice(['small', 'large'])}."]
        case Stage.REASONING:
            return [f"I see {thing}.", f" That makes {number}."]
        case Stage.CONCLUSION:
            return [str(number)]


def _bound(schema: Mapping[str, Any], chance: Random) -> str:
    stage = Stage.CONCLUSION
    return f"{stage.opening}{json.dumps(_instance(schema, chance.randint(1, 9)))}{stage.closing}"


def _instance(schema: Mapping[str, Any], number: int) -> Any:
    """A value that keeps to the schema. Raises KeyError where it is beyond this engine."""
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    if schema.get("type", "object") == "object":
        return {name: _instance(each, number) for name, each in schema.get("properties", {}).items()}
    if schema["type"] == "array":
        return [_instance(schema["items"], number)]
    return {"integer": number, "number": number, "string": str(number), "boolean": number % 2 == 0}[schema["type"]]


def _with_tags(text: str) -> tuple[int, ...]:
    pieces = re.split(f"({'|'.join(TAGS)})", text)
    return tuple(
        token
        for piece in pieces
        for token in ([FIRST_TAG_ID + TAGS.index(piece)] if piece in TAGS else map(ord, piece))
    )
