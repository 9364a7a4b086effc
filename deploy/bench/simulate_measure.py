"""Measures what the simulation goes by, on real vLLM: `python -m deploy.bench.simulate measure`.

An engine, its workers and the process that drives it share one core, so that on a machine of two cores two of them take
nothing from each other. Each duration is the shortest of several, as anything else that runs only makes it longer.
"""

import asyncio
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from PIL import Image
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from deploy.bench.simulate_inputs import StepTimes
from deploy.bench.simulate_record import BLOCK
from server.engine.vllm_engine import VllmEngine

BATCHES = (1, 2, 4, 8, 16, 32, 64)
SHORT, LONG = 32, 96
MANY = 16
FEW_PROMPT_TOKENS, MANY_PROMPT_TOKENS = 40, 360
ROUNDS = 12
TOKENS_PER_OUTPUT = 16


def pin(core: int) -> dict[str, str]:
    """Keep this process, and the engines that it starts, to one core; as variables for other processes too."""
    os.sched_setaffinity(0, {core})
    pinned = {"VLLM_CPU_OMP_THREADS_BIND": str(core), "OMP_NUM_THREADS": "1"}
    os.environ.update(pinned)
    return pinned


@dataclass(frozen=True, slots=True)
class Took:
    wall_s: float
    own_s: float
    """Of it, what this process computed; the engine, which is on the same core, stood still."""

    def less(self, other: "Took") -> "Took":
        return Took(self.wall_s - other.wall_s, self.own_s - other.own_s)

    @property
    def engine_s(self) -> float:
        return self.wall_s - self.own_s


async def step_times(model: str, *, source: str, front_request_s: float) -> StepTimes:
    """Of an engine on the core that this process is pinned to."""
    async with VllmEngine(model, disable_log_stats=True) as engine:
        decode = await _decode_s(engine)
        prefill = await _prefill_s(engine)
        image_s = await _image_s(engine, prefill)
        request_s, turnaround_s = await _joining_s(engine, decode, prefill)
    return StepTimes(
        source=source,
        decode_s=decode,
        prefill_token_s=prefill,
        image_s=image_s,
        request_s=request_s,
        turnaround_s=turnaround_s,
        front_request_s=front_request_s,
    )


async def _decode_s(engine: VllmEngine) -> dict[int, float]:
    """One step of so many requests, from the difference that more steps make."""
    prompt = await _asked(engine, "How many objects are there?", Image.new("RGB", (64, 64), "white"))
    took = defaultdict[tuple[int, int], list[Took]](list)
    for _ in range(ROUNDS):
        for num, length in product(BATCHES, (SHORT, LONG)):
            took[num, length].append(await _batch(engine, [prompt] * num, length))
    return {num: _least(took[num, LONG]).less(_least(took[num, SHORT])).engine_s / (LONG - SHORT) for num in BATCHES}


async def _prefill_s(engine: VllmEngine) -> float:
    """One more token of a prompt that is not cached."""
    few, many = list[Took](), list[Took]()
    for _ in range(2 * ROUNDS):
        few.append(await _batch(engine, [_of_words(engine, FEW_PROMPT_TOKENS)], 1))
        many.append(await _batch(engine, [_of_words(engine, MANY_PROMPT_TOKENS)], 1))
    return _least(many).less(_least(few)).engine_s / (MANY_PROMPT_TOKENS - FEW_PROMPT_TOKENS)


async def _image_s(engine: VllmEngine, prefill_token_s: float) -> float:
    """One more image that is new."""
    with_image, without = list[Took](), list[Took]()
    text = await _asked(engine, "Which?", None)
    num_more = 0
    for _ in range(2 * ROUNDS):
        noise = Image.frombytes("RGB", (64, 64), random.randbytes(64 * 64 * 3))
        shown = await _asked(engine, "Which?", noise)
        num_more = len(shown["prompt_token_ids"]) - len(text["prompt_token_ids"])
        with_image.append(await _batch(engine, [shown], 1))
        without.append(await _batch(engine, [text], 1))
    return max(0.0, _least(with_image).less(_least(without)).engine_s - num_more * prefill_token_s)


async def _joining_s(engine: VllmEngine, decode: Mapping[int, float], prefill_token_s: float) -> tuple[float, float]:
    """Of requests that end with the step which they join: one more of them, and what else the first takes."""
    prompt = await _asked(engine, "How many objects are there?", Image.new("RGB", (64, 64), "white"))
    lone, many = list[Took](), list[Took]()
    for _ in range(2 * ROUNDS):
        lone.append(await _batch(engine, [prompt], 1))
        many.append(await _batch(engine, [prompt] * MANY, 1))
    length = len(prompt["prompt_token_ids"])
    prefill_s = (length - (length - 1) // BLOCK * BLOCK) * prefill_token_s
    one_s = (_least(many).less(_least(lone)).engine_s - (decode[MANY] - decode[1])) / (MANY - 1)
    request_s = max(0.0, one_s - prefill_s)
    return request_s, max(0.0, _least(lone).engine_s - decode[1] - prefill_s - request_s)


def _least(took: Iterable[Took]) -> Took:
    return min(took, key=lambda each: each.wall_s)


async def _asked(engine: VllmEngine, text: str, image: Image.Image | None) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}]
    images = [] if image is None else [image]
    problem = await engine.render([{"role": "user", "content": [{"type": "image"}] * len(images) + parts}], images)
    rendered: Any = problem.prompt
    return {**rendered.whole, "prompt_token_ids": list(rendered.token_ids)}


def _of_words(engine: VllmEngine, length: int) -> dict[str, Any]:
    ids = engine.encode("How many small red circles and large blue squares are left then?")
    return {"type": "token", "prompt_token_ids": random.choices(ids, k=length)}


async def _batch(engine: VllmEngine, prompts: Sequence[Mapping[str, Any]], length: int) -> Took:
    """All prompts at once, continued by `length` tokens whatever they are."""
    started, own = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_continue(engine, prompt, length) for prompt in prompts))
    return Took(time.perf_counter() - started, time.process_time() - own)


async def _continue(engine: VllmEngine, prompt: Mapping[str, Any], length: int) -> None:
    params = SamplingParams(
        temperature=0.6,
        top_p=0.9,
        ignore_eos=True,
        max_tokens=length,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        stream_interval=TOKENS_PER_OUTPUT,
    )
    request: Any = dict(prompt)
    async for _ in engine._llm.generate(request, params, f"measured-{random.random()}"):
        pass
