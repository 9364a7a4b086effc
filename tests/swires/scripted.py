"""An engine and a scorer that follow a script, in a loop whose time passes at once."""

import asyncio
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings

from swires.ahead import Foresight, Kind
from swires.events import Event, StageChosen, TextCommitted
from swires.plan import SearchPlan
from swires.protocols import Chunk, Engine, Scorer, Scores
from swires.result import SearchResult
from swires.search import search
from swires.stages import Stage
from swires.types import FinishReason, Problem, Sampling, Trajectory

T = TypeVar("T")

PROBLEM = Problem("prompt", num_prompt_tokens=10)

few = settings(max_examples=40)
many = settings(max_examples=100)


class Skipping(selectors.DefaultSelector):
    """Does not wait: the time that it would have waited has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("all tasks wait for each other")
        self.now += 0.0 if ready or timeout is None else timeout
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main)


@dataclass(frozen=True)
class Request:
    prefix: str
    stage: Stage
    n: int
    sampling: Sampling
    live: bool
    prompt: object = PROBLEM.prompt


@dataclass(frozen=True)
class Line:
    """What the engine is to write for a candidate, and how long it takes."""

    text: str
    seconds: float = 0.0
    finish_reason: FinishReason = "stop"


Script = Callable[[Request, int], Line]


def numbered(request: Request, index: int) -> Line:
    return Line(f"{request.stage.opening}{len(request.prefix)}.{index}{request.stage.closing}")


@dataclass
class ScriptedEngine:
    """Every character is a token. A candidate that is not live comes in two chunks: ids alone, then the rest."""

    script: Script = numbered
    requests: list[Request] = field(default_factory=list)
    num_running: int = 0
    most_running: int = 0

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        request = Request("".join(map(chr, prefix)), stage, n, sampling, live, problem.prompt)
        self.requests.append(request)
        timed = [chunk for index in range(n) for chunk in self._chunks(request, index)]
        now = 0.0
        self.num_running += n
        self.most_running = max(self.most_running, self.num_running)
        try:
            for at, chunk in sorted(timed, key=lambda each: each[0]):
                await asyncio.sleep(at - now)
                now = at
                yield chunk
        finally:
            self.num_running -= n

    def _chunks(self, request: Request, index: int) -> list[tuple[float, Chunk]]:
        line = self.script(request, index)
        text = line.text[: request.sampling.max_tokens]
        reason: FinishReason = line.finish_reason if text == line.text else "length"
        size = 1 if request.live else (len(text) + 1) // 2
        starts = range(0, max(1, len(text)), max(1, size))
        chunks = [
            (
                line.seconds * (start + size) / max(1, len(line.text)),
                Chunk(index, text[start : start + size] if request.live else "", ids(text[start : start + size])),
            )
            for start in starts
        ]
        at, last = chunks.pop()
        return [
            *chunks,
            (
                min(at, line.seconds),
                Chunk(
                    index,
                    last.text if request.live else text,
                    last.token_ids,
                    reason,
                    logprob=-float(len(text)) if request.sampling.likelihood else None,
                    num_prompt_tokens=PROBLEM.num_prompt_tokens + len(request.prefix),
                    num_cached_tokens=len(request.prefix),
                ),
            ),
        ]


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@dataclass
class ScriptedScorer:
    """Scores by `judge`, in batches that take `seconds` each."""

    judge: Callable[[Trajectory], float] = lambda trajectory: 0.0
    seconds: float = 0.0
    tokens_each: int = 1
    needs_likelihood: bool = False
    compares: bool = False
    ranks: bool = False
    batches: list[tuple[Trajectory, ...]] = field(default_factory=list)

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        self.batches.append(tuple(trajectories))
        await asyncio.sleep(self.seconds)
        values = tuple(map(self.judge, trajectories))
        return Scores(values, self.tokens_each * len(values), num_cached_tokens=len(values))


class Trusting(Foresight):
    """Acts upon every guess."""

    def __init__(self, most: int = 999, held: Callable[[], int] = lambda: 0) -> None:
        super().__init__(most, held)

    def expects(self, kind: Kind) -> bool:
        return True


def searched(
    plan: SearchPlan, engine: Engine, scorer: Scorer, foresight: Foresight | None = None
) -> tuple[SearchResult, list[Event]]:
    """A search from start to end, with what holds for every one of them."""
    events: list[Event] = []
    result = run(search(plan, engine, scorer, events.append, foresight=foresight))
    assert "".join(event.text for event in events if isinstance(event, TextCommitted)) == result.answer.text
    chosen = [(event.candidate, event.score) for event in events if isinstance(event, StageChosen)]
    assert chosen == list(zip(result.answer.candidates, result.answer.scores, strict=True))
    return result, events
