"""vLLM's engine in a process without HTTP: our searches as a library, and the bare engine as the ceiling.

`python -m deploy.bench.in_process` is a child that answers lines, see `deploy.bench.child`.
"""

import argparse
import asyncio
import base64
import io
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from PIL import Image
from prometheus_client import generate_latest

from deploy.bench.ceiling import Tree, continue_all
from deploy.bench.child import answer_lines, claimed_output
from deploy.bench.fixed import FixedLengths
from deploy.bench.schedule import BALANCED, ONE_ROUND, TEMPERATURE, TOP_P
from server.checkpoint import Checkpoint, load
from server.engine.labels import LabelRead
from server.engine.vllm_engine import VllmEngine
from server.scorer.offered import make_scorers
from server.settings import Settings
from swires.admission import Line
from swires.ahead import Foresight
from swires.events import Event, TextCommitted
from swires.plan import SearchPlan
from swires.protocols import Chunk
from swires.search import search
from swires.stages import Stage
from swires.types import Problem, Sampling

Json: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Recorded:
    """An engine that notes what one search asks of it."""

    engine: VllmEngine
    tree: Tree = field(default_factory=Tree)

    @property
    def max_model_len(self) -> int:
        return self.engine.max_model_len

    def encode(self, text: str) -> tuple[int, ...]:
        return self.engine.encode(text)

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        lengths = [0] * n
        generated = self.engine.generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(generated) as chunks:
            async for chunk in chunks:
                lengths[chunk.index] += len(chunk.token_ids)
                yield chunk
        self.tree.sampled += [(prefix, length) for length in lengths]

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        self.tree.read += prefixes
        return await self.engine.read_labels(problem, prefixes, labels)


class InProcess:
    """Answers the rows of one engine."""

    def __init__(self, engine: VllmEngine, checkpoint: Checkpoint, *, fixed: bool) -> None:
        self.engine, self.checkpoint = engine, checkpoint
        self.policy = ONE_ROUND if fixed else BALANCED
        self.capacity = Settings.model_fields["max_candidates"].default
        self.line = Line(self.capacity)
        look_ahead = Settings.model_fields["look_ahead"].default
        self.foresight = Foresight(look_ahead, lambda: self.capacity - self.line.free)
        self.trees = dict[str, Tree]()

    async def answer(self, request: Json) -> Json:
        match request["row"]:
            case "metrics":
                return {"metrics": generate_latest().decode()}
            case "search":
                return await self.search(request)
            case "tree":
                return {} if request["key"] in self.trees else await self.search(request)
            case "ceiling":
                return await self.ceiling(request, scored=request["scored"])
        raise ValueError(request["row"])

    async def render(self, request: Json) -> Problem:
        image = Image.open(io.BytesIO(base64.b64decode(request["image"].partition(",")[2])))
        parts = [{"type": "image"}, {"type": "text", "text": request["question"]}]
        return await self.engine.render([{"role": "user", "content": parts}], [image])

    async def search(self, request: Json) -> Json:
        """As the server would, which admits no more candidates at once than fit."""
        first_s, started = list[float](), time.perf_counter()

        def note(event: Event) -> None:
            if isinstance(event, TextCommitted):
                first_s.append(time.perf_counter() - started)

        problem, engine = await self.render(request), Recorded(self.engine)
        (scorer,) = make_scorers(engine, self.checkpoint, ("verifier",)).values()
        plan = SearchPlan(problem, self.policy, Sampling(TEMPERATURE, TOP_P))
        with self.line.join(min(plan.width, self.capacity)) as turn:
            await turn.come()
            result = await search(plan, engine, scorer, note, foresight=self.foresight)
        self.trees[request["key"]] = engine.tree
        return {
            "content": result.sections[-1].text,
            "tokens": result.tokens.generated,
            "generations": result.generations,
            "first_s": first_s[0],
            "seconds": time.perf_counter() - started,
        }

    async def ceiling(self, request: Json, *, scored: bool) -> Json:
        """The sequences of a search of the same question, whose tree is known."""
        tree, started = self.trees[request["key"]], time.perf_counter()
        await continue_all(self.engine, await self.render(request), tree, scored=scored)
        seconds = time.perf_counter() - started
        return {
            "content": "",
            "tokens": tree.num_tokens,
            "generations": len(tree.sampled),
            "first_s": seconds,
            "seconds": seconds,
        }


async def main() -> None:
    out, parser = claimed_output(), argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fixed", action="store_true")
    options = parser.parse_args()
    async with (FixedLengths if options.fixed else VllmEngine)(options.model) as engine:
        await answer_lines(InProcess(engine, load(options.model), fixed=options.fixed).answer, out)


if __name__ == "__main__":
    asyncio.run(main())
