"""The engine in production: vLLM's AsyncLLM here, its core and its workers in processes of their own.

The one module that imports vLLM. Written against vLLM 0.32.
"""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, repeat
from multiprocessing import resource_tracker
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile
from typing import Any, NoReturn, Self, cast

import vllm
from PIL.Image import Image
from vllm import AsyncEngineArgs, PoolingParams, RequestOutput, SamplingParams
from vllm.config import LoggingConfig, ParallelConfig
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.logprobs import Logprob
from vllm.multimodal.cache.lru import LruKeyReplicatedSenderCache
from vllm.multimodal.inputs import MultiModalKwargsItems
from vllm.platforms import current_platform
from vllm.renderers import ChatParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

from server.checkpoint import load
from server.engine.classifier import Classified, Conversation
from server.engine.labels import LabelRead
from server.engine.merge import gathered
from server.engine.messages import check_length, plain
from server.engine.plain_text import PlainText, pieces
from server.engine.ranks import Ranks
from server.engine.sampling_params import sampling_params
from server.engine.structure import bounds_strings
from server.engine.tags import closing_ids
from server.engine.tokens import following, text_of
from server.engine.writing import End, Likely, Writing, side_by_side
from server.span import trace_headers
from swires.errors import EngineError, InvalidPlan
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

CPU_CACHE_BYTES = 1 << 30
"""For keys and values: 170,000 tokens of the embedded checkpoint."""

NO_SPECULATION = (
    "with --speculative-config vLLM dies of the verifier's reads, on a CPU it samples wrongly: leave it out"
)
"""Measured on the embedded checkpoint: 15 of 16 answers are right without drafts, 3 with. What dies, of
`logprob_token_ids`, is the core, in code of all devices."""

NO_STATISTICS = "traces need vLLM's statistics: leave --disable-log-stats out"
"""Its spans are made of them: without, the first one would end its reader of outputs."""

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 160 << 20
"""Of it, for a core to tell its workers what to do."""

USED_MEMORY = 0.9
"""Of an accelerator, by all engines together."""

STOP_S = 20
"""vLLM kills its processes after 5 seconds else, which is short on a busy machine and leaves shared memory behind."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as vLLM takes it, image placeholders expanded; `light` differs from `whole` in lacking the tensors.

    All that continues it runs on one data-parallel `rank`, whose cache has it.
    """

    token_ids: tuple[int, ...]
    whole: Mapping[str, Any] = field(repr=False)
    light: Mapping[str, Any] = field(repr=False)
    rank: int

    def then(self, prefix: tuple[int, ...]) -> "Rendered":
        return replace(self, token_ids=self.token_ids + prefix)

    def apart(self, cache_salt: str | None) -> "Rendered":
        """Known to the core's caches, of keys and values and of images, under names that others do not have."""
        if cache_salt is None:
            return self
        return replace(self, whole=_salted(self.whole, cache_salt), light=_salted(self.light, cache_salt))


def engine_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse vLLM's command-line engine options into keywords of `VllmEngine`. Raises EngineError in one line."""
    new_parser: Any = FlexibleArgumentParser
    parser: Any = AsyncEngineArgs.add_cli_args(new_parser(prog="vLLM"))
    parser.error = _refuse_options
    default, given = vars(parser.parse_args([])), vars(parser.parse_args(list(arguments)))
    return {name: value for name, value in given.items() if value != default[name]}


def _refuse_options(message: str) -> NoReturn:
    raise EngineError(f"vLLM's options: {message}", dead=True)


class VllmEngine:
    """`options` are vLLM's engine arguments. An async context manager: entering starts vLLM, leaving stops it.

    Entering raises EngineError when vLLM does not start, CheckpointError when its tokenizer is not what the checkpoint
    promises.
    """

    def __init__(self, model: str, **options: Any) -> None:
        """Raises CheckpointError when the model's swires.json is wrong."""
        self._options = {"model": model, "limit_mm_per_prompt": {"image": 1}} | _cpu_defaults(options) | options
        self._checkpoint = load(model)
        self._request_ids = count()

    async def __aenter__(self) -> Self:
        if self._options.get("speculative_config"):
            raise EngineError(NO_SPECULATION, dead=True)
        if self._options.get("otlp_traces_endpoint") and self._options.get("disable_log_stats"):
            raise EngineError(NO_STATISTICS, dead=True)
        async with AsyncExitStack() as undo:
            with _starting():
                self._llm = await asyncio.to_thread(self._start)
                undo.push_async_callback(self._stop)
                await self._llm.get_supported_tasks()
                await self._llm.reset_mm_cache()
            self._tokenizer: Any = self._llm.renderer.get_tokenizer()
            self._closing_ids = closing_ids(self._checkpoint, self.encode)
            self._plain_text = PlainText(self._tokenizer.get_added_vocab())
            self._ranks = Ranks(_num_ranks(self._llm.vllm_config.parallel_config))
            undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def _start(self) -> AsyncLLM:
        # Ctrl-C reaches all processes; only this one is to act on it. vLLM's inherit the mask, which the start of
        # multiprocessing's tracker would undo.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**self._options | _logging(self._options)))

    async def _stop(self) -> None:
        reader = self._llm.output_handler
        self._llm.shutdown(timeout=STOP_S)
        if reader is not None:
            await asyncio.wait([reader])
        del self._llm  # it would stop itself once more when collected, and at the interpreter's exit that fails

    @property
    def alive(self) -> bool:
        return hasattr(self, "_llm") and not self._llm.errored

    @property
    def max_model_len(self) -> int:
        return self._llm.model_config.max_model_len

    @property
    def max_logprobs(self) -> int:
        config = self._llm.model_config
        return config.get_vocab_size() if config.max_logprobs < 0 else config.max_logprobs

    @property
    def version(self) -> str:
        return f"vllm {vllm.__version__}"

    @property
    def num_running(self) -> int:
        """Requests that vLLM works on or has waiting."""
        return self._llm.get_num_unfinished_requests()

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        """Render a chat, once for all requests of a search; its parts `{"type": "image"}` stand for `images` in order.

        What reads like a special token or a stage tag in a message stays text. Raises InvalidPlan, EngineError.
        """
        renderer, remaining = self._llm.renderer, ({"type": "image_pil", "image_pil": image} for image in images)
        chat: list[Any] = [plain(message, self._plain_text, partial(next, remaining)) for message in messages]
        params = ChatParams(chat_template_kwargs={"add_generation_prompt": True, "tokenize": False})
        tokenize = renderer.default_chat_tok_params.with_kwargs(add_special_tokens=False)
        with _rendering():
            _, templated = await renderer.render_messages_async(chat, params)
            # This cache keeps the tensors; vLLM's usual one would drop them where it believes the core to have them.
            (inputs,) = await renderer.render_cmpl_async([self._tokenized(templated)], tokenize, skip_mm_cache=True)
        problem = self._problem(inputs)
        check_length(problem.num_prompt_tokens, self.max_model_len)
        return problem

    def _tokenized(self, templated: Any) -> Any:
        """vLLM tokenizes a prompt by itself, unless a special token in it was broken."""
        first, *others = pieces(templated["prompt"])
        if not others:
            return templated
        ids = [*self.encode(first), *(token for part in others for token in following(part, encode=self.encode))]
        return {**{key: value for key, value in templated.items() if key != "prompt"}, "prompt_token_ids": ids}

    def _problem(self, inputs: Mapping[str, Any]) -> Problem:
        token_ids = tuple(inputs["prompt_token_ids"])
        whole = {key: value for key, value in inputs.items() if key not in ("prompt", "arrival_time")}
        light = whole
        if "mm_kwargs" in whole and isinstance(self._llm.renderer.mm_processor_cache, LruKeyReplicatedSenderCache):
            absent = {modality: [None] * len(items) for modality, items in whole["mm_kwargs"].items()}
            light = {**whole, "mm_kwargs": MultiModalKwargsItems(absent)}
        return Problem(Rendered(token_ids, whole, light, self._ranks.choose()), len(token_ids))

    def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`. Each candidate is a request of its own, so that it can finish by itself."""
        prompt = _continued(problem, prefix)
        room = self.max_model_len - len(prompt.token_ids)

        def sample(index: int) -> AsyncGenerator[Chunk, None]:
            return self._sample(prompt, stage, sampling, index, room, live=live, fresh=not prefix and index == 0)

        return side_by_side(n, room, sample)

    def _params(self, stage: Stage, sampling: Sampling, index: int, room: int, live: bool) -> SamplingParams:
        closing_id = self._closing_ids[stage]
        params = sampling_params(stage, sampling, index, room=room, live=live, closing_id=closing_id)
        structure = params.pop("structured_outputs")
        return SamplingParams(
            **params,
            structured_outputs=structure and StructuredOutputsParams(**structure),
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )

    async def check_schema(self, schema: str) -> None:
        """See `server.serving_engine.ServingEngine`."""
        if not await asyncio.to_thread(self._fits, schema):
            raise InvalidPlan("the schema cannot be kept to", field="json_schema")

    def _fits(self, schema: str) -> bool:
        """Of xgrammar, which passes over some of what it cannot enforce."""
        config = self._llm.vllm_config
        try:
            params = self._params(Stage.CONCLUSION, Sampling(json_schema=schema), index=0, room=1, live=False)
            params.verify(
                config.model_config, config.speculative_config, config.structured_outputs_config, self._tokenizer
            )
        except (VLLMClientError, ValueError):
            return False
        asked = json.loads(schema)
        return not has_xgrammar_unsupported_json_features(asked) and not bounds_strings(asked)

    async def _sample(
        self, prompt: Rendered, stage: Stage, sampling: Sampling, index: int, room: int, *, live: bool, fresh: bool
    ) -> AsyncGenerator[Chunk, None]:
        """One candidate: its ids as they come, with `live` their text too, else all text at the end."""
        with _requesting():
            params = self._params(stage, sampling, index, room, live)
        writing = Writing(
            index, prompt.token_ids[-1], self.encode, self.decode, sampling, live=live, may_stop=bool(params.stop)
        )
        text, logprobs = "", list[Any]()
        async with aclosing(self._outputs(prompt, params, fresh=fresh)) as outputs:
            async for output in outputs:
                (sample,) = output.outputs
                writing.take(sample.token_ids)
                text += sample.text
                logprobs += sample.logprobs or ()
                if sample.finish_reason is None and (chunk := writing.begun()):
                    yield chunk
        writing.logprobs += map(_likely, writing.ids, logprobs, repeat(sampling.top_logprobs))
        end = End.told(sample.finish_reason, sample.stop_reason, self._closing_ids[stage], lambda stop: text + stop)
        yield writing.last(end, len(prompt.token_ids), output.num_cached_tokens or 0)

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        """See `server.engine.labels.LabelReader`."""
        return await gathered([self._read(_continued(problem, prefix), labels) for prefix in prefixes])

    async def _read(self, prompt: Rendered, labels: tuple[int, ...]) -> LabelRead:
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            logprobs=len(labels),
            logprob_token_ids=list(labels),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with aclosing(self._outputs(prompt, params, fresh=False)) as outputs:
            output = [output async for output in outputs][-1]
        next_token: Any = output.outputs[0].logprobs
        logprobs = tuple(next_token[0][label].logprob for label in labels)
        return LabelRead(logprobs, len(prompt.token_ids), output.num_cached_tokens or 0)

    async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        """See `server.engine.classifier.Classifier`; of a model started with `runner="pooling", convert="classify"`."""
        return await gathered([self._classify(conversation) for conversation in conversations])

    async def _classify(self, conversation: Conversation) -> Classified:
        renderer, chat = self._llm.renderer, [cast(Any, message) for message in conversation]
        params = ChatParams(chat_template_kwargs={"add_generation_prompt": False, "tokenize": False})
        with _rendering():
            _, (prompt,) = await renderer.render_chat_async([chat], params)
        with _requesting():
            pooling = PoolingParams(task="classify", use_activation=False)
            async with aclosing(self._llm.encode(prompt, pooling, f"swires-{next(self._request_ids)}")) as outputs:
                output = [output async for output in outputs][-1]
        if output.error is not None:
            raise EngineError("the engine dropped a request")
        logits = tuple(output.outputs.data.tolist())
        return Classified(logits, len(output.prompt_token_ids), output.num_cached_tokens)

    async def _outputs(
        self, prompt: Rendered, params: SamplingParams, *, fresh: bool
    ) -> AsyncGenerator[RequestOutput, None]:
        """What vLLM samples after the prompt. Only a `fresh` request, a search's first, takes the image tensors along.

        The others leave them to the core's cache. Where it lacks them, which shows as a finished output with the
        reason "error" and no token, the request is sent once more, with them.
        """
        begun = False
        for inputs in (prompt.whole,) if fresh else (prompt.light, prompt.whole):
            request: Any = {**inputs, "prompt_token_ids": list(prompt.token_ids)}
            with _requesting(), self._ranks.running(prompt.rank):
                request_id = f"swires-{next(self._request_ids)}"
                outputs = self._llm.generate(
                    request, params, request_id, trace_headers=trace_headers(), data_parallel_rank=prompt.rank
                )
                async with aclosing(outputs):
                    async for output in outputs:
                        reason = output.outputs[0].finish_reason
                        if reason in ("error", "abort"):
                            break
                        begun = True
                        yield output
                    else:
                        return
            if begun or reason == "abort":
                break
        raise EngineError("the engine dropped a request")

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of `text`, nothing added."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, tags and all."""
        return text_of(ids, self._tokenizer)


def _cpu_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's own are a block of 128 tokens, with which short stages find little cached, and 92 % of all memory. Its
    worker is mended, else a seed could end it."""
    if not current_platform.is_cpu():
        return {}
    memory = {} if "gpu_memory_utilization" in options else {"kv_cache_memory_bytes": CPU_CACHE_BYTES}
    return {"block_size": 32, "worker_extension_cls": "server.engine.cpu_worker.SeedsOnCpu", **memory}


def _logging(options: Mapping[str, Any]) -> dict[str, LoggingConfig]:
    """vLLM takes other configurations as mappings, but not this one."""
    asked = options.get("logging_config")
    return {"logging_config": LoggingConfig(**asked)} if isinstance(asked, dict) else {}


def _num_ranks(config: ParallelConfig) -> int:
    """The engines that this process sends requests to."""
    return config.data_parallel_size_local if config.local_engines_only else config.data_parallel_size


def memory_beside(share: float) -> tuple[dict[str, float], dict[str, float]]:
    """Options of an engine that takes this share of an accelerator's memory, and of the one that runs beside it."""
    if current_platform.is_cpu():
        return {}, {}
    return {"gpu_memory_utilization": share}, {"gpu_memory_utilization": USED_MEMORY - share}


def _salted(inputs: Mapping[str, Any], cache_salt: str) -> Mapping[str, Any]:
    hashes = {
        modality: [f"{cache_salt}-{each}" for each in those] for modality, those in inputs.get("mm_hashes", {}).items()
    }
    return {**inputs, "cache_salt": cache_salt} | ({"mm_hashes": hashes} if hashes else {})


def _continued(problem: Problem, prefix: tuple[int, ...]) -> Rendered:
    assert isinstance(problem.prompt, Rendered)
    return problem.prompt.apart(problem.cache_salt).then(prefix)


def _likely(token: int, told: Mapping[int, Logprob], num_top: int | None) -> Likely:
    return told[token].logprob, [(each, told[each].logprob) for each in told] if num_top else ()


@contextmanager
def _starting() -> Iterator[None]:
    try:
        yield
    except (VLLMError, RuntimeError, ValueError, TypeError, OSError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"the engine did not start: {'; '.join([reason, *_lacking()])}", dead=True) from error


def _lacking() -> Iterator[str]:
    """What a process of vLLM may have died of, which its own trace alone would tell."""
    folder = Path(vllm.envs.VLLM_CACHE_ROOT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        yield f"vLLM cannot write to {folder} ({error.strerror}): set VLLM_CACHE_ROOT to a folder where it can"
    if not SHARED_MEMORY.is_dir() or disk_usage(SHARED_MEMORY).free < SHARED_BYTES:
        yield f"{SHARED_MEMORY} has less than the {SHARED_BYTES >> 20} MiB that it may need: docker run --shm-size 1g"


@contextmanager
def _rendering() -> Iterator[None]:
    try:
        yield
    except VLLMClientError as error:
        raise InvalidPlan(str(error), field="messages") from error
    except ValueError as error:
        raise InvalidPlan("the model cannot take these messages", field="messages") from error


@contextmanager
def _requesting() -> Iterator[None]:
    try:
        yield
    except EngineDeadError as error:
        raise EngineError("the engine has died", dead=True) from error
    except VLLMError as error:
        raise EngineError("the engine failed on a request") from error
