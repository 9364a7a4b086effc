"""One contract for all scorers, in the form in which a server offers them."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import pytest

from server.checkpoint import Checkpoint, Deviation
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeClassifier, FakeScorer
from server.scorer.judge import Judge
from server.scorer.offered import SCORERS, Beside, make_scorers
from server.scorer.remote import connected
from server.scorer.reward_model import RemoteClassifier
from server.settings import Sees
from swires.protocols import Scorer
from swires.stages import Stage
from swires.types import Trajectory
from tests.scorer.answers import PROBLEM, SUMMARY, captions, then
from tests.scorer.chat_judge import longer, replying
from tests.scorer.loopback import Json, loopback, ok

TEXTS = ("One red square.", "Two red squares.", "Two squares, both of them red.", "Nothing.", "A red circle, too.")
CALIBRATION = {stage: Deviation(mean=0.5, std=2.0) for stage in Stage}
KEYS = ("verifier", "verifier:stage", "reward_model", "reward_model:stage", "likelihood")
KNOWN = Checkpoint.model_validate(
    {
        "stages": {"tags": "special"},
        "verifier": {"ask": "?", "yes": "+", "no": "-"},
        "calibration": dict.fromkeys(KEYS, CALIBRATION),
    }
)


@dataclass
class Far:
    """What scorers ask: it answers until it is told to be `silent`, and knows when it is asked and left."""

    silent: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    num_asked: int = 0

    async def step(self) -> None:
        self.num_asked += 1
        try:
            await self._wait()
        finally:
            self.num_asked -= 1

    async def _wait(self) -> None:
        self.asked.set()
        if self.silent:
            await asyncio.Event().wait()

    def answering(self, answer: Callable[[Json], bytes]) -> Callable[[Json], bytes | None]:
        def reply(body: Json) -> bytes | None:
            self.asked.set()
            return None if self.silent else answer(body)

        return reply


def reward(body: Json) -> bytes:
    return ok({"data": [{"probs": [Random(repr(body["messages"])).gauss(0, 1)]}]})


Left: TypeAlias = Callable[[], Awaitable[object]]


async def _at_once() -> None: ...


@asynccontextmanager
async def scoring(name: str, sees: Sees, far: Far) -> AsyncGenerator[tuple[Scorer, Left], None]:
    """A scorer, and what is done when whatever it has asked is left alone again."""
    async with AsyncExitStack() as stack:
        beside = Beside(FakeClassifier())
        left: Left = _at_once
        if name in ("judge", "remote reward_model"):
            answer = replying(longer) if name == "judge" else reward
            server = await stack.enter_async_context(loopback(far.answering(answer)))
            remote = await stack.enter_async_context(connected(name, server.url, timeout_s=30))
            beside = Beside(RemoteClassifier(remote), Judge(remote, "critic", sees))
            left = server.left.wait
        if name == "fake":
            yield FakeScorer(), left
        else:
            offered = name.removeprefix("remote ")
            yield make_scorers(FakeEngine(step=far.step), KNOWN, [offered], beside, sees=sees)[offered], left


NAMES = (*SCORERS, "remote reward_model", "fake")
ASKING = ("verifier", "remote reward_model", "judge")
"""Those that wait for something else."""


@pytest.fixture(params=["answer", "stage"])
def sees(request: pytest.FixtureRequest) -> Sees:
    chosen: Sees = request.param
    return chosen


@pytest.fixture(params=NAMES)
async def scorer(request: pytest.FixtureRequest, sees: Sees) -> AsyncIterator[Scorer]:
    async with scoring(request.param, sees, Far()) as (scorer, _):
        yield scorer


async def values(scorer: Scorer, trajectories: list[Trajectory]) -> tuple[float, ...]:
    return (await scorer.score(PROBLEM, trajectories)).values


async def test_a_score_for_each_and_each_a_number(scorer: Scorer) -> None:
    found = await values(scorer, captions(*TEXTS))
    assert len(found) == len(TEXTS)
    assert all(map(math.isfinite, found))
    assert len(set(found)) > 1


async def test_one_alone(scorer: Scorer) -> None:
    (found,) = await values(scorer, captions(TEXTS[0]))
    assert math.isfinite(found)


async def test_what_reads_the_same_has_the_same_score(scorer: Scorer) -> None:
    found = await values(scorer, captions(*TEXTS, *TEXTS))
    assert found[: len(TEXTS)] == found[len(TEXTS) :]


async def test_the_order_does_not_matter_and_others_only_where_candidates_are_compared(scorer: Scorer) -> None:
    trajectories = captions(*TEXTS)
    found = await values(scorer, trajectories)
    if not scorer.ranks:  # the place in a knock-out decides who meets whom
        assert await values(scorer, trajectories[::-1]) == found[::-1]
    alone = [(await values(scorer, [trajectory]))[0] for trajectory in trajectories]
    assert (tuple(alone) == found) is not scorer.compares


async def test_the_same_again(scorer: Scorer) -> None:
    one, two = [await values(scorer, captions(*TEXTS)) for _ in range(2)]
    assert one == two


@pytest.mark.parametrize("stage", Stage)
async def test_every_stage(scorer: Scorer, stage: Stage) -> None:
    found = await values(scorer, [then(SUMMARY, stage, text) for text in TEXTS])
    assert all(map(math.isfinite, found))


async def test_tokens_that_are_told_are_none_or_some(scorer: Scorer) -> None:
    scores = await scorer.score(PROBLEM, captions(*TEXTS))
    assert scores.num_tokens >= 0
    assert scores.num_cached_tokens >= 0


async def test_only_one_that_compares_can_rank(scorer: Scorer) -> None:
    assert scorer.compares or not scorer.ranks


@pytest.mark.parametrize("name", ASKING)
async def test_a_score_that_nobody_waits_for_leaves_nothing_running(name: str) -> None:
    far = Far()
    async with scoring(name, "answer", far) as (scorer, left):
        await scorer.score(PROBLEM, captions(*TEXTS))
        far.asked.clear()
        far.silent = True
        before = asyncio.all_tasks()
        task = asyncio.create_task(scorer.score(PROBLEM, captions(*TEXTS)))
        await far.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left()
        assert far.num_asked == 0
        assert {running for running in asyncio.all_tasks() - before if not running.done()} == set()


async def test_what_a_scorer_is_shown_is_what_it_scores(sees: Sees) -> None:
    caption, other = captions("Two.")[0], then(then(SUMMARY, Stage.SUMMARY, "Another."), Stage.CAPTION, "Two.")
    for name in ("verifier", "reward_model"):
        async with scoring(name, sees, Far()) as (scorer, _):
            one, two = await values(scorer, [caption, other])
        assert (one == two) is (sees == "stage")
