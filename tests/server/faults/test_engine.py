"""An engine that dies, stands still or fails in the middle of a search, in each stage, over HTTP."""

import asyncio
import signal

import httpx
import pytest

from server import serve
from server.engine.fake import FakeEngine
from swires.errors import EngineError
from swires.stages import Stage
from tests.server.client import ask
from tests.server.conftest import Started
from tests.server.faults.answers import error_of, search_of
from tests.server.faults.stages import FromStage, Gate
from tests.server.left import until
from tests.server.running import running, told_to_stop

LIMIT_S = 10

in_each_stage = pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
streaming_or_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TICK_S", 0.01)


@in_each_stage
@streaming_or_not
async def test_a_dead_engine_is_told_to_all_and_ends_the_server(serving: Started, stage: Stage, stream: bool) -> None:
    """Though it leaves its requests without a word, and two of the searches wait for their turn."""
    engine = FromStage(stage, gate := Gate())
    async with serving(engine, max_candidates=1) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        asking = [asyncio.create_task(ask(client, stream=stream)) for _ in range(3)]
        await gate.reached.wait()
        await until(lambda: len(app.state.service.scheduler._tasks) == len(asking), LIMIT_S)
        engine.alive = False
        for reply in await asyncio.gather(*asking):
            error = error_of(reply, stream=stream)
            assert (error["type"], error["code"]) == ("server_error", "engine_error")
        with pytest.raises(EngineError, match="the engine died"):
            await server.task


@in_each_stage
@streaming_or_not
async def test_an_engine_that_dies_while_the_server_drains(serving: Started, stage: Stage, stream: bool) -> None:
    engine = FromStage(stage, gate := Gate())
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        asking = asyncio.create_task(ask(client, stream=stream))
        await gate.reached.wait()
        await told_to_stop(client, signal.SIGTERM)
        engine.alive = False
        assert error_of(await asking, stream=stream)["code"] == "engine_error"
        with pytest.raises(EngineError):
            await server.task


@in_each_stage
@streaming_or_not
async def test_the_deadline_ends_a_search_whose_engine_stands_still(
    serving: Started, stage: Stage, stream: bool
) -> None:
    """The server's or, in two of the stages, that of the request."""
    engine = FromStage(stage, gate := Gate())
    asked, limit = ({"timeout_s": 0.3}, {}) if stage in (Stage.SUMMARY, Stage.REASONING) else ({}, {"timeout_s": 0.3})
    async with serving(engine, **limit) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        reply = await ask(client, stream=stream, swires=asked)
        if stage is Stage.SUMMARY:
            assert error_of(reply, stream=stream)["code"] == "deadline_exceeded"
        else:
            assert search_of(reply, stream=stream)["stopped_by"] == "seconds"
        gate.opened.set()
        assert (await ask(client, swires={"preset": "fast"})).status_code == 200


@in_each_stage
@streaming_or_not
async def test_an_engine_that_stands_still_counts_as_dead(serving: Started, stage: Stage, stream: bool) -> None:
    engine = FromStage(stage, Gate())
    async with serving(engine, engine_stall_s=0.1) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        reply = await ask(client, stream=stream)
        assert error_of(reply, stream=stream)["code"] == "engine_error"
        with pytest.raises(EngineError, match=r"said nothing for 0.1 s \(--engine-stall-s\)"):
            await server.task
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")


async def test_an_engine_that_has_nothing_to_do_does_not(serving: Started) -> None:
    async with serving(engine_stall_s=0.1) as app, running(app) as server, server.connect() as client:
        assert (await ask(client)).status_code == 200
        await asyncio.sleep(0.3)
        assert (await client.get("/health")).status_code == 200


@in_each_stage
@streaming_or_not
@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineError("worker at 10.0.0.7"), "engine_error"), (MemoryError("at 10.0.0.7"), "internal_error")],
)
async def test_requests_that_fail_in_the_engine_fail_their_search_alone(
    serving: Started, stage: Stage, stream: bool, error: Exception, code: str
) -> None:
    async def fault() -> None:
        raise error

    engine = FromStage(stage, fault)
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        reply = await ask(client, stream=stream)
        assert error_of(reply, stream=stream)["code"] == code
        assert "10.0.0.7" not in reply.text
        engine.armed = False
        assert (await ask(client, stream=stream)).status_code == 200
        assert (await client.get("/ready")).status_code == 200


async def test_no_memory_for_an_image_fails_its_request_alone(
    serving: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def render(*_: object) -> None:
        raise MemoryError

    engine = FakeEngine()
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        with monkeypatch.context() as patched:
            patched.setattr(engine, "render", render)
            reply = await ask(client)
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
        assert (await ask(client)).status_code == 200
