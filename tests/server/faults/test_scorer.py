"""A scorer that is down, slow or broken: the search goes on without it, and says so."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from server.scorer.fake import FakeScorer
from server.scorer.guarded import Guarded
from swires.errors import EngineError, ScorerError
from swires.protocols import Scores
from swires.types import Problem, Trajectory
from tests.server.client import ask
from tests.server.conftest import Started
from tests.server.faults.answers import error_of, search_of
from tests.server.running import running

PATIENCE_S = 0.05

streaming_or_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Broken(FakeScorer):
    """Fails at its `first` call and those after it, or does not come back."""

    def __init__(self, error: Exception | None, first: int = 1) -> None:
        self._error = error
        self._left = first

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        self._left -= 1
        if self._left > 0:
            return await super().score(problem, trajectories)
        if self._error is None:
            await asyncio.Event().wait()
        raise self._error or AssertionError


@streaming_or_not
@pytest.mark.parametrize("first", [1, 2], ids=["from the start", "later"])
@pytest.mark.parametrize("error", [ScorerError("connection refused"), None], ids=["down", "slow"])
async def test_a_search_goes_on_without_its_scorer(
    serving: Started, error: Exception | None, first: int, stream: bool
) -> None:
    scorers = {"told": Guarded("told", Broken(error, first), PATIENCE_S)}
    async with serving(scorers=scorers) as app, running(app) as server, server.connect() as client:
        told = search_of(await ask(client, stream=stream), stream=stream)
        assert told["scorer_degraded"]
        assert told["stopped_by"] is None
        assert len(told["stages"]) == 4
        metrics = (await client.get("/metrics")).text
        assert "swires_scorer_degraded_total 1.0" in metrics


@streaming_or_not
async def test_a_scorer_that_hangs_takes_no_more_than_the_search_has(serving: Started, stream: bool) -> None:
    """Whatever patience it is given."""
    scorers = {"told": Guarded("told", Broken(None), 3600)}
    async with serving(scorers=scorers) as app, running(app) as server, server.connect() as client:
        start = time.monotonic()
        told = search_of(await ask(client, stream=stream, swires={"timeout_s": 1}), stream=stream)
        assert time.monotonic() - start < 10
        assert told["scorer_degraded"]


@streaming_or_not
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("of the verifier, at 10.0.0.7"), "engine_error"),
        (MemoryError("at 10.0.0.7"), "internal_error"),
        (KeyError("at 10.0.0.7"), "internal_error"),
    ],
)
async def test_what_is_not_the_scorer_s_own_failure_ends_the_search(
    serving: Started, error: Exception, code: str, stream: bool
) -> None:
    scorers = {"fake": FakeScorer(), "told": Guarded("told", Broken(error), PATIENCE_S)}
    async with serving(scorers=scorers) as app, running(app) as server, server.connect() as client:
        reply = await ask(client, stream=stream, swires={"scorer": "told"})
        assert error_of(reply, stream=stream)["code"] == code
        assert "10.0.0.7" not in reply.text
        assert (await ask(client)).status_code == 200
