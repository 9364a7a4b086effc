"""The most that a search could get out of the engine: all of its sequences at once, none waiting for another."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from deploy.bench.schedule import TEMPERATURE, TOP_P
from server.engine.vllm_engine import VllmEngine
from swires.types import Problem


@dataclass(slots=True)
class Tree:
    """What a search asked of its engine: the prefix and the length of each candidate, and what its scorer read."""

    sampled: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    read: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(length for _, length in self.sampled)


async def continue_all(engine: VllmEngine, problem: Problem, tree: Tree, *, scored: bool) -> None:
    """Sample every candidate after its prefix, known beforehand; with `scored`, read what the scorer read too."""
    reads = [(prefix, 1) for prefix in tree.read] if scored else []
    async with asyncio.TaskGroup() as tasks:
        for index, (prefix, length) in enumerate([*tree.sampled, *reads]):
            tasks.create_task(_continue(engine, problem, prefix, length, fresh=index == 0))


async def _continue(engine: VllmEngine, problem: Problem, prefix: tuple[int, ...], length: int, *, fresh: bool) -> None:
    params = SamplingParams(
        temperature=TEMPERATURE,
        top_p=TOP_P,
        max_tokens=max(1, length),
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    prompt = problem.prompt.then(prefix)  # type: ignore[attr-defined]
    async with aclosing(engine._outputs(prompt, params, fresh=fresh)) as outputs:
        async for _ in outputs:
            pass
