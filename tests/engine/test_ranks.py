"""One rank a search: which, and that real vLLM with two of them finds all of a search in one cache."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from server import sample
from server.engine.ranks import Ranks
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

QUESTIONS = ("How many objects are there?", "How many circles are left?", "Is there a triangle?", "Which is large?")
BLOCK = 32


def test_idle_ranks_take_turns() -> None:
    ranks = Ranks(3)
    assert [ranks.choose() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_the_one_with_the_fewest_requests_is_chosen() -> None:
    ranks = Ranks(3)
    with ranks.running(0), ranks.running(1), ExitStack() as ended_first:
        assert [ranks.choose() for _ in range(3)] == [2, 2, 2]
        for _ in range(2):
            ended_first.enter_context(ranks.running(2))
        assert [ranks.choose() for _ in range(4)] == [0, 1, 0, 1]
        ended_first.close()
        assert ranks.choose() == 2
    assert ranks.num_running == [0, 0, 0]


def test_a_request_that_fails_is_counted_out() -> None:
    ranks = Ranks(1)
    with pytest.raises(ZeroDivisionError), ranks.running(0):
        raise ZeroDivisionError
    assert ranks.num_running == [0]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two_ranks(start_vllm: "StartVllm", checkpoint: Path) -> "AsyncGenerator[VllmEngine, None]":
    async with start_vllm(checkpoint, data_parallel_size=2, enforce_eager=True, disable_log_stats=True) as engine:
        yield engine


@pytest.mark.asyncio(loop_scope="session")
async def test_all_requests_of_a_search_meet_one_cache(two_ranks: "VllmEngine") -> None:
    problems = [await rendered(two_ranks, question) for question in QUESTIONS]
    assert [problem.prompt.rank for problem in problems] == [0, 1, 0, 1]  # type: ignore[attr-defined]
    labels = two_ranks.encode("+") + two_ranks.encode("-")
    for problem in problems:
        (first,) = await finished(two_ranks, problem, (), Stage.CAPTION, n=1)
        prefix = first.token_ids
        length = problem.num_prompt_tokens + len(prefix)
        assert length > BLOCK, "with nothing to be cached this would show nothing"
        for later in await finished(two_ranks, problem, prefix, Stage.REASONING, n=4):
            assert later.num_cached_tokens == (length - 1) // BLOCK * BLOCK
        for read in await two_ranks.read_labels(problem, [prefix] * 2, labels):
            assert read.num_cached_tokens == (length - 1) // BLOCK * BLOCK


async def rendered(engine: "VllmEngine", text: str) -> Problem:
    parts = [{"type": "image"}, {"type": "text", "text": text}]
    return await engine.render([{"role": "user", "content": parts}], [sample.image()])


async def finished(
    engine: "VllmEngine", problem: Problem, prefix: tuple[int, ...], stage: Stage, *, n: int
) -> list[Chunk]:
    """The last chunk of each candidate, with all of its ids."""
    ids: dict[int, tuple[int, ...]] = {}
    ends: list[Chunk] = []
    async with aclosing(engine.generate(problem, prefix, stage=stage, n=n, sampling=Sampling(seed=3))) as chunks:
        async for chunk in chunks:
            ids[chunk.index] = ids.get(chunk.index, ()) + chunk.token_ids
            if chunk.finish_reason is not None:
                ends.append(chunk)
    return [
        Chunk(end.index, end.text, ids[end.index], "stop", end.logprob, end.num_prompt_tokens, end.num_cached_tokens)
        for end in ends
    ]
