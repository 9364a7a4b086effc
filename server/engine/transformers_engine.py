"""The engine for architectures that vLLM has dropped, Llama-3.2-Vision among them: transformers, in this process.

An image is encoded once a search: keys and values of prompts and finished candidates are kept, and forked for what
continues them. The candidates of one call are a batch; calls take turns step by step. The one module of the server that
imports torch and transformers. Written against transformers 5.19.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Self, TypeVar

import torch
import transformers
from PIL.Image import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache

from server.checkpoint import load
from server.engine.labels import LabelRead
from server.engine.messages import check_length, plain
from server.engine.plain_text import BREAK, PlainText, unbroken
from server.engine.tags import closing_ids
from server.engine.tokens import following, text_of
from server.engine.writing import TOKENS_PER_CHUNK, End, Likely, Writing
from server.settings import CACHED_POSITIONS
from swires.errors import EngineError, InvalidPlan
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

TOKEN_BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""Inputs of a model with a place for each token of the prompt."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the model takes it, image placeholders expanded; `key` tells it from others in the cache."""

    key: int
    token_ids: tuple[int, ...]
    inputs: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Layer:
    """Keys and values, [candidates, heads, positions, width]; a `fixed` layer has those of the image alone."""

    keys: Tensor
    values: Tensor
    fixed: bool

    def cut(self, length: int) -> "Layer":
        return self if self.fixed else self._with(lambda states: states[:, :, :length])

    def spread(self, n: int) -> "Layer":
        return self._with(lambda states: states.expand(n, -1, -1, -1))

    def rows(self, rows: list[int]) -> "Layer":
        return self._with(lambda states: states[: len(rows)] if self.fixed else states[rows])

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Layer":
        return Layer(change(self.keys), change(self.values), self.fixed)


@dataclass(frozen=True, slots=True)
class State:
    """What the model has read: its layers for `length` positions, the offset of later ones that an image causes, and
    the logits of the next token."""

    layers: tuple[Layer, ...]
    length: int
    offset: Tensor | None
    logits: Tensor

    def changed(self, change: Callable[[Layer], Layer], logits: Tensor, length: int | None = None) -> "State":
        layers = tuple(map(change, self.layers))
        return State(layers, self.length if length is None else length, self.offset, logits)

    def rows(self, rows: list[int]) -> "State":
        return self.changed(lambda layer: layer.rows(rows), self.logits[rows])


class PrefixCache:
    """The states of prompts and what continued them, the longest unused dropped beyond so many positions."""

    def __init__(self, max_positions: int) -> None:
        self._max_positions = max_positions
        self._num_positions = 0
        self._states: OrderedDict[tuple[int, tuple[int, ...]], State] = OrderedDict()

    def find(self, key: int, ids: tuple[int, ...]) -> tuple[State, int] | None:
        """The state that shares the longest beginning with `ids`, and how long that is."""
        shared = {known: _num_shared(known[1], ids) for known in self._states if known[0] == key}
        if not shared:
            return None
        best = max(shared, key=lambda known: shared[known])
        self._states.move_to_end(best)
        return self._states[best], shared[best]

    def keep(self, key: int, ids: tuple[int, ...], state: State) -> None:
        if (key, ids) in self._states:
            return
        self._states[key, ids] = state
        self._num_positions += state.length
        while self._num_positions > self._max_positions:
            _, dropped = self._states.popitem(last=False)
            self._num_positions -= dropped.length


def _num_shared(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


class TransformersEngine:
    """An async context manager: entering loads the model, in full precision on a CPU; leaving frees it.

    Entering raises EngineError when the model cannot be loaded, CheckpointError when its tokenizer is not what the
    checkpoint promises.
    """

    def __init__(self, model: str, *, max_cached_positions: int = CACHED_POSITIONS) -> None:
        """Raises CheckpointError when the model's swires.json is wrong."""
        self._name = model
        self._checkpoint = load(model)
        self._max_cached_positions = max_cached_positions
        self._keys = count()
        self.num_running = 0
        self.alive = False
        self.version = f"transformers {transformers.__version__}"

    async def __aenter__(self) -> Self:
        self._worker = ThreadPoolExecutor(1, "transformers")
        try:
            await self._work(self._load)
            self._closing_ids = closing_ids(self._checkpoint, self.encode)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            self._worker.shutdown()
            reason = str(error).strip().partition("\n")[0]
            raise EngineError(f"the engine did not start: {reason}", dead=True) from error
        except BaseException:
            self._worker.shutdown()
            raise
        self.alive = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.alive = False
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        del self._model, self._cache

    def _load(self) -> None:
        on_gpu = torch.cuda.is_available()
        load_model: Any = AutoModelForImageTextToText.from_pretrained
        self._model: Any = load_model(self._name, dtype="auto" if on_gpu else torch.float32)
        self._model.to("cuda" if on_gpu else "cpu").eval()
        self._processor: Any = AutoProcessor.from_pretrained(self._name)
        self._tokenizer: Any = self._processor.tokenizer
        text = self._model.config.get_text_config()
        self.max_model_len = int(text.max_position_embeddings)
        self.max_logprobs = int(text.vocab_size)
        self._fixed = frozenset(getattr(text, "cross_attention_layers", None) or ())
        ends = self._model.generation_config.eos_token_id
        self._end_ids = {self._tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self._plain_text = PlainText(self._tokenizer.get_added_vocab())
        self._break_ids = following(BREAK, encode=self.encode)
        self._cache = PrefixCache(self._max_cached_positions)

    async def _work(self, do: Callable[[], T]) -> T:
        """In the one thread that computes, in the order of asking."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, do)

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        """See `server.serving_engine.ServingEngine`. What reads like a special token or a stage tag stays text."""
        chat = [self._message(message) for message in messages]
        try:
            inputs = await asyncio.to_thread(self._processed, chat, list(images))
        except (ValueError, TypeError, IndexError) as error:
            raise InvalidPlan("the model cannot take these messages", field="messages") from error
        token_ids = tuple(inputs["input_ids"][0].tolist())
        check_length(len(token_ids), self.max_model_len)
        return Problem(Rendered(next(self._keys), token_ids, inputs), len(token_ids))

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return plain({**message, "content": parts}, self._plain_text, lambda: {"type": "image"})

    def _processed(self, chat: Sequence[Mapping[str, Any]], images: list[Image]) -> dict[str, Tensor]:
        """The processor tokenizes breaks with the rest; their tokens are then taken out."""
        text = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = dict(
            self._processor(text=[text], images=images or None, add_special_tokens=False, return_tensors="pt")
        )
        kept = unbroken(inputs["input_ids"][0].tolist(), self._break_ids, text.count(BREAK))
        return {name: value[:, kept] if name in TOKEN_BY_TOKEN else value for name, value in inputs.items()}

    async def check_schema(self, schema: str) -> None:
        """See `server.serving_engine.ServingEngine`."""
        raise InvalidPlan("this engine cannot bind the answer to a schema", field="json_schema")

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`. Raises InvalidPlan naming `json_schema` where a schema is asked for."""
        if sampling.json_schema is not None:
            await self.check_schema(sampling.json_schema)
        prompt = _rendered(problem)
        ids = prompt.token_ids + prefix
        room = self.max_model_len - len(ids)
        if room < 1:
            for index in range(n):
                yield Chunk(index, "", (), "length")
            return
        batch = Batch(self, prompt, ids, stage, sampling, live, min(sampling.max_tokens, room))
        self.num_running += 1
        try:
            state, num_cached = await self._work(partial(self.read, prompt, ids, keep=True))
            batch.begin(state, n, num_cached)
            while batch.unfinished:
                for chunk in await self._work(batch.step):
                    yield chunk
        except RuntimeError as error:
            raise EngineError("the engine failed on a request") from error
        finally:
            self.num_running -= 1

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        """See `server.engine.labels.LabelReader`."""
        prompt = _rendered(problem)
        try:
            reads = [await self._work(partial(self._read_labels, prompt, prefix, labels)) for prefix in prefixes]
        except RuntimeError as error:
            raise EngineError("the engine failed on a request") from error
        return tuple(reads)

    def _read_labels(self, prompt: Rendered, prefix: tuple[int, ...], labels: tuple[int, ...]) -> LabelRead:
        ids = prompt.token_ids + prefix
        state, num_cached = self.read(prompt, ids, keep=False)
        logprobs = state.logits[0].log_softmax(-1)[list(labels)]
        return LabelRead(tuple(logprobs.tolist()), len(ids), num_cached)

    def read(self, prompt: Rendered, ids: tuple[int, ...], *, keep: bool) -> tuple[State, int]:
        """The state after `ids`, which begin with the prompt, and for how many of them it was in the cache."""
        found = self._cache.find(prompt.key, ids)
        if found is None:
            state = self._forward(prompt.inputs, None, len(prompt.token_ids))
            self._cache.keep(prompt.key, prompt.token_ids, state)
            num_cached, shared = 0, state.length
        else:
            state, shared = found
            num_cached = min(shared, len(ids) - 1)
        if state.length > len(ids) or shared < state.length:
            shared = min(shared, len(ids) - 1)
            state = state.changed(lambda layer: layer.cut(shared), state.logits, shared)
        if state.length < len(ids):
            state = self.go_on(state, torch.tensor([ids[state.length :]]), prompt.inputs)
            if keep:
                self._cache.keep(prompt.key, ids, state)
        return state, num_cached

    @torch.inference_mode()
    def go_on(self, state: State, ids: Tensor, inputs: Mapping[str, Tensor]) -> State:
        """Read `ids`, [candidates, tokens], after `state`; of the prompt's `inputs` only what sees its image counts."""
        seen = inputs.get("cross_attention_mask")
        more = {} if seen is None else {"cross_attention_mask": seen[:, -1:].expand(*ids.shape, -1, -1)}
        return self._forward({"input_ids": ids, **more}, state, state.length + ids.shape[1])

    @torch.inference_mode()
    def _forward(self, inputs: Mapping[str, Tensor], before: State | None, length: int) -> State:
        cache: Any = DynamicCache()
        base = self._model.base_model
        if before is not None:
            for index, layer in enumerate(before.layers):
                cache.update(layer.keys, layer.values, index)
            if before.offset is not None:
                base.rope_deltas = before.offset
        on_device = {name: value.to(self._model.device) for name, value in inputs.items()}
        out = self._model(**on_device, past_key_values=cache, use_cache=True, logits_to_keep=1)
        layers = tuple(
            Layer(layer.keys, layer.values, index in self._fixed) for index, layer in enumerate(cache.layers)
        )
        return State(layers, length, getattr(base, "rope_deltas", None), out.logits[:, -1].float().cpu())

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of `text`, nothing added."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, tags and all."""
        return text_of(ids, self._tokenizer)

    def closing_id(self, stage: Stage) -> int | None:
        return self._closing_ids[stage]

    def ends(self, token: int) -> bool:
        """Whether it ends an answer."""
        return token in self._end_ids

    def keep(self, key: int, ids: tuple[int, ...], state: State) -> None:
        self._cache.keep(key, ids, state)


class Batch:
    """The candidates of one call, in step until each ends."""

    def __init__(
        self,
        engine: TransformersEngine,
        prompt: Rendered,
        ids: tuple[int, ...],
        stage: Stage,
        sampling: Sampling,
        live: bool,
        max_tokens: int,
    ) -> None:
        self._engine, self._prompt, self._ids, self._sampling, self._live = engine, prompt, ids, sampling, live
        self._max_tokens = max_tokens
        self._closing = engine.closing_id(stage)
        self._stop = (*sampling.stop, *(() if self._closing is not None else (stage.closing,)))
        self.unfinished: list[Writing] = []

    def begin(self, state: State, n: int, num_cached: int) -> None:
        self._state = state.changed(lambda layer: layer.spread(n), state.logits.expand(n, -1))
        self._num_cached = num_cached
        self._generators = [self._generator(index) for index in range(n)]
        self.unfinished = [self._writing(index) for index in range(n)]

    def _writing(self, index: int) -> Writing:
        return Writing(
            index,
            self._ids[-1],
            self._engine.encode,
            self._engine.decode,
            self._sampling,
            live=self._live,
            may_stop=bool(self._stop),
            num_at_once=1 if self._live else TOKENS_PER_CHUNK,
        )

    def _generator(self, index: int) -> torch.Generator:
        generator, seed = torch.Generator(), self._sampling.seed
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed + index)
        return generator

    def step(self) -> list[Chunk]:
        """Sample a token of each candidate; what this makes ready to be told."""
        self._sample()
        chunks, staying = list[Chunk](), list[int]()
        for row, writing in enumerate(self.unfinished):
            if end := self._end(writing):
                chunks.append(writing.last(end, len(self._ids), self._num_cached))
                self._keep(row, writing)
                continue
            staying.append(row)
            if chunk := writing.begun():
                chunks.append(chunk)
        if staying:
            state = self._state if len(staying) == len(self.unfinished) else self._state.rows(staying)
            self.unfinished = [self.unfinished[row] for row in staying]
            newest = torch.tensor([[writing.ids[-1]] for writing in self.unfinished])
            self._state = self._engine.go_on(state, newest, self._prompt.inputs)
        else:
            self.unfinished = []
        return chunks

    def _sample(self) -> None:
        asked = self._sampling.likelihood or self._sampling.top_logprobs is not None
        logprobs = self._state.logits.log_softmax(-1) if asked else None
        for row, writing in enumerate(self.unfinished):
            token = chosen(self._state.logits[row], self._sampling, self._generators[writing.index])
            writing.take((token,), () if logprobs is None else [self._likely(logprobs[row], token)])

    def _likely(self, logprobs: Tensor, token: int) -> Likely:
        top = logprobs.topk(self._sampling.top_logprobs or 0)
        return float(logprobs[token]), list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

    def _end(self, writing: Writing) -> End | None:
        token = writing.ids[-1]
        if token == self._closing:
            return End("stop")
        if self._engine.ends(token):
            return End("stop", of_answer=True)
        if self._stop and (text := writing.through(*self._stop)) is not None:
            return End("stop", text=text)
        return End("length") if len(writing.ids) >= self._max_tokens else None

    def _keep(self, row: int, writing: Writing) -> None:
        """All but its newest token was read."""
        ids = (*self._ids, *writing.ids[:-1])
        self._engine.keep(self._prompt.key, ids, self._state.rows([row]))


def chosen(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """A token of the nucleus: the likeliest, as many as it takes to come to `top_p`."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, tokens = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.masked_fill(before >= sampling.top_p, 0)
    return int(tokens[torch.multinomial(nucleus, 1, generator=generator)])


def _rendered(problem: Problem) -> Rendered:
    assert isinstance(problem.prompt, Rendered)
    return problem.prompt
