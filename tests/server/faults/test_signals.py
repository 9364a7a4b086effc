"""SIGTERM and SIGINT in each stage of a search: the first lets it finish, the second ends it at once."""

import asyncio
import signal

import httpx
import pytest

from swires.stages import Stage
from tests.server.client import ask
from tests.server.conftest import Started
from tests.server.faults.answers import search_of
from tests.server.faults.stages import FromStage, Gate
from tests.server.left import until
from tests.server.running import running, signalled, told_to_stop

LIMIT_S = 10

in_each_stage = pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
streaming_or_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@in_each_stage
@streaming_or_not
async def test_all_that_was_accepted_finishes_and_nothing_new_begins(
    serving: Started, stage: Stage, stream: bool
) -> None:
    engine = FromStage(stage, gate := Gate())
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        asking = [asyncio.create_task(ask(client, stream=stream, seed=seed)) for seed in range(3)]
        await gate.reached.wait()
        await until(lambda: len(app.state.service.scheduler._tasks) == len(asking), LIMIT_S)
        await told_to_stop(client, signal.SIGTERM)
        refused = await ask(client, stream=stream)
        assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (503, True)
        gate.opened.set()
        for reply in await asyncio.gather(*asking):
            told = search_of(reply, stream=stream)
            assert [each["stage"] for each in told["stages"]] == [each.name for each in Stage]
        await server.task


@in_each_stage
@streaming_or_not
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_searches(
    serving: Started, stage: Stage, stream: bool, second: signal.Signals
) -> None:
    engine = FromStage(stage, gate := Gate())
    async with serving(engine) as app, running(app) as server, server.connect() as client:
        engine.armed = True
        asking = asyncio.create_task(ask(client, stream=stream))
        await gate.reached.wait()
        await told_to_stop(client, signal.SIGTERM)
        signalled(second)
        await server.task
        assert engine.num_running == 0
        with pytest.raises(httpx.HTTPError):
            await asking
