"""Candidates of fixed lengths, whatever they say: every row then does the same work, token by token.

`python -m deploy.bench.fixed serve ...` is `swires serve ...` with them.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from vllm import SamplingParams

from deploy.bench.lengths import length
from server.checkpoint import load
from server.engine import vllm_engine
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling


class FixedLengths(vllm_engine.VllmEngine):
    """vLLM whose candidates are as long as their stages are on average; at their end they count as finished."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self._lengths = load(model).lengths

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        sampling = replace(sampling, max_tokens=length(self._lengths, stage, after=len(prefix)))
        generated = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(generated) as chunks:
            async for chunk in chunks:
                yield chunk if chunk.finish_reason is None else replace(chunk, finish_reason="stop")

    def _params(self, stage: Stage, sampling: Sampling, index: int, room: int, live: bool) -> SamplingParams:
        usual = super()._params(stage, sampling, index, room, live)
        return SamplingParams(
            temperature=usual.temperature,
            top_p=usual.top_p,
            seed=usual.seed,
            max_tokens=usual.max_tokens,
            logprobs=usual.logprobs,
            ignore_eos=True,
            detokenize=False,
            output_kind=usual.output_kind,
            stream_interval=usual.stream_interval,
        )


def main() -> int:
    from server.cli import main as serve

    vllm_engine.VllmEngine = FixedLengths  # type: ignore[misc]
    return serve()


if __name__ == "__main__":
    sys.exit(main())
