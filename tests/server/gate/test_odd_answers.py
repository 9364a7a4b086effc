"""Candidates that no stage ends with, engines that fail on some: the search makes the best of what there is."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from random import Random

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.engine.fake import FakeEngine, _with_tags
from swires.errors import EngineError
from swires.policies import POLICIES
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import FinishReason, Problem, Sampling
from tests.server.client import Json, ask, chat, chunks, connect
from tests.server.conftest import Started
from tests.server.left import nothing_left
from tests.server.running import running

ODDITIES: Mapping[str, Callable[[Stage], tuple[str, FinishReason]]] = {
    "nothing": lambda stage: ("", "stop"),
    "no end": lambda stage: (f"{stage.opening}It goes on and on.", "stop"),
    "no tags": lambda stage: ("Seven.", "stop"),
    "the end alone": lambda stage: (stage.closing, "stop"),
    "another stage": lambda stage: (f"{Stage.CAPTION.opening}A circle.{Stage.CAPTION.closing}{stage.closing}", "stop"),
    "the last stage first": lambda stage: (
        f"{Stage.CONCLUSION.opening}7{Stage.CONCLUSION.closing}{stage.closing}",
        "stop",
    ),
    "twice begun": lambda stage: (f"{stage.opening}a{stage.opening}b{stage.closing}", "stop"),
    "the same for ever": lambda stage: (f"{stage.opening}{'no ' * 500}", "length"),
}
ODD = pytest.mark.parametrize("oddity", ODDITIES)
STREAM = pytest.mark.parametrize("stream", [False, True])


class Odd(FakeEngine):
    """Writes candidates of `stages` in an odd way, each or, with `some`, half of them."""

    def __init__(self, oddity: str, *, some: bool = False, stages: tuple[Stage, ...] = tuple(Stage)) -> None:
        super().__init__()
        self._oddity = ODDITIES[oddity]
        self._some = some
        self._stages = stages

    def _written(
        self, problem: Problem, prefix: tuple[int, ...], stage: Stage, sampling: Sampling, chance: Random
    ) -> tuple[tuple[int, ...], FinishReason]:
        if stage not in self._stages or (self._some and chance.random() < 0.5):
            return super()._written(problem, prefix, stage, sampling, chance)
        text, reason = self._oddity(stage)
        ids = _with_tags(text)
        return ids[: sampling.max_tokens], "length" if len(ids) > sampling.max_tokens else reason


def told_of(reply: httpx.Response, *, stream: bool) -> Json:
    """The facts of a search that has ended with an answer."""
    assert reply.status_code == 200, reply.text
    if not stream:
        (choice,) = reply.json()["choices"]
        told: Json = reply.json()["swires"]
    else:
        *_, last = [chunk for chunk in chunks(reply) if chunk["choices"]]
        (choice,) = last["choices"]
        told = last["swires"]
    assert choice["finish_reason"] in ("stop", "length")
    return told


@ODD
@pytest.mark.parametrize("some", [False, True])
@STREAM
async def test_odd_candidates_end_in_an_answer(started: Started, oddity: str, some: bool, stream: bool) -> None:
    async with started(Odd(oddity, some=some)) as app, connect(app) as client:
        for policy in POLICIES:
            told = told_of(await ask(client, stream=stream, swires={"policy": policy}), stream=stream)
            assert 1 <= told["generations"] <= 64
        await nothing_left(app)


@pytest.mark.parametrize("stage", Stage)
@STREAM
async def test_a_stage_none_of_whose_candidates_is_valid(started: Started, stage: Stage, stream: bool) -> None:
    """However often it is retraced: the answer is what there is, and tells so."""
    engine = Odd("the same for ever", stages=(stage,))
    async with started(engine) as app, connect(app) as client:
        reply = await ask(client, stream=stream, swires={"policy": "swires", "max_retraces": 3, "trace": True})
        told = told_of(reply, stream=stream)
        if stage is Stage.REASONING:
            assert (told["accepted"], told["retraces"]) == (False, 3)
        reasons = {node["finish_reason"] for node in told["trace"] if node["stage"] == stage.name}
        assert reasons == {"length"}
        await nothing_left(app)


class FailingOnce(FakeEngine):
    """Fails on the first request of each stage that begins where there are others."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[Stage] = set()
        self.armed = False

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        if self.armed and stage in (Stage.REASONING, Stage.CONCLUSION) and stage not in self.failed:
            self.failed.add(stage)
            raise EngineError("the engine dropped a request")
        stream = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
        async with aclosing(stream) as all_chunks:
            async for chunk in all_chunks:
                yield chunk


@STREAM
async def test_a_request_that_the_engine_fails_on_costs_its_candidates_alone(started: Started, stream: bool) -> None:
    engine = FailingOnce()
    async with started(engine) as app, connect(app) as client:
        engine.armed = True
        swires = {"policy": "swires", "trace": True, "max_retraces": 0}
        told = told_of(await ask(client, stream=stream, swires=swires), stream=stream)
        failed = [node for node in told["trace"] if node["finish_reason"] == "failed"]
        assert engine.failed == {Stage.REASONING, Stage.CONCLUSION}
        assert {node["stage"] for node in failed} == {"REASONING", "CONCLUSION"}
        assert {(node["fate"], node["score"]) for node in failed} == {("aborted", None)}
        assert (told["stopped_by"], [stage["stage"] for stage in told["stages"]]) == (
            None,
            [stage.name for stage in Stage],
        )
        await nothing_left(app)


@pytest.mark.parametrize(("error", "code"), [(EngineError("x"), "engine_error"), (KeyError("x"), "internal_error")])
async def test_what_fails_in_a_stream_is_told_in_it_and_counted(serving: Started, error: Exception, code: str) -> None:
    steps = 0

    async def fail() -> None:
        nonlocal steps
        steps += 1
        await asyncio.sleep(0)
        if steps > 100:
            raise error

    engine = FakeEngine()
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine._step = fail
        reply = await client.post("/v1/chat/completions", json=chat(stream=True))
        *before, last = chunks(reply)
        assert (reply.status_code, last["error"]["code"]) == (200, code)
        assert any(choice["delta"].get("reasoning") for chunk in before for choice in chunk["choices"])
        assert await failures(client) == 1
        await nothing_left(app)


async def failures(client: httpx.AsyncClient) -> float:
    page = (await client.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "swires_searches_total" and sample.labels["outcome"] == "failed"
    )
