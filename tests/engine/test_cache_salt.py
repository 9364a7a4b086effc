"""Two callers never share what real vLLM has cached, and one caller does."""

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from server import sample
from swires.stages import Stage
from swires.types import Problem, Sampling

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = "A question that no other test asks, long enough for a whole block of the cache. " * 4


async def cached(engine: "VllmEngine", problem: Problem) -> int:
    sampling = Sampling(max_tokens=2)
    async with aclosing(engine.generate(problem, (), stage=Stage.SUMMARY, n=1, sampling=sampling)) as chunks:
        *_, last = [chunk async for chunk in chunks]
    return last.num_cached_tokens


async def test_what_is_cached_for_one_is_not_for_another(vllm_engine: "VllmEngine") -> None:
    parts = [{"type": "image"}, {"type": "text", "text": TEXT}]
    problem = await vllm_engine.render([{"role": "user", "content": parts}], [sample.image()])
    asked = [replace(problem, cache_salt=salt) for salt in ("ann", "ann", "bob", "bob", None)]
    first, again, other, other_again, nobody = [await cached(vllm_engine, each) for each in asked]
    assert (first, other, nobody) == (0, 0, 0)
    assert again == other_again > 0


async def test_the_answer_is_the_same_whatever_the_salt(vllm_engine: "VllmEngine") -> None:
    parts = [{"type": "image"}, {"type": "text", "text": sample.QUESTION}]
    problem = await vllm_engine.render([{"role": "user", "content": parts}], [sample.image()])
    texts = set()
    for salt in (None, "ann"):
        salted, sampling = replace(problem, cache_salt=salt), Sampling(seed=5)
        async with aclosing(vllm_engine.generate(salted, (), stage=Stage.CAPTION, n=2, sampling=sampling)) as chunks:
            texts.add("".join(sorted([chunk.text async for chunk in chunks])))
    assert len(texts) == 1


async def test_the_image_of_another_is_asked_for_again(vllm_engine: "VllmEngine") -> None:
    """A search's later requests leave the image to the core's cache, which knows it under the caller's name alone."""
    parts = [{"type": "image"}, {"type": "text", "text": TEXT}]
    problem = await vllm_engine.render([{"role": "user", "content": parts}], [sample.image()])
    assert await cached(vllm_engine, replace(problem, cache_salt="carol")) == 0
    ids = vllm_engine.encode("I see.")
    sampling = Sampling(max_tokens=2)
    salted = replace(problem, cache_salt="dave")
    async with aclosing(vllm_engine.generate(salted, ids, stage=Stage.SUMMARY, n=1, sampling=sampling)) as chunks:
        *_, last = [chunk async for chunk in chunks]
    assert (last.num_cached_tokens, last.finish_reason) == (0, "length")
