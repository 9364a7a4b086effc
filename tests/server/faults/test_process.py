"""What becomes of the process: its status, its one line, and where it may not write. On a fake engine."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.client import Json, ask
from tests.server.faults.answers import error_of, search_of
from tests.server.faults.process import started

LIMIT_S = 60


def question(text: str, **fields: object) -> Json:
    return {"messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture
def full() -> Iterator[int]:
    """What is written there finds no space left."""
    file = os.open("/dev/full", os.O_WRONLY)
    yield file
    os.close(file)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("die", "swires: the engine died"),
        ("stall", "swires: the engine said nothing for 1 s (--engine-stall-s)"),
        ("stick", "swires: the engine said nothing for 1 s (--engine-stall-s)"),
    ],
)
async def test_a_process_without_its_engine_ends_for_another_to_begin(tmp_path: Path, fault: str, line: str) -> None:
    async with started(tmp_path, "--engine-stall-s", "1") as server:
        await server.ready()
        async with server.connect() as client:
            reply = await ask(client, **question(fault, stream=True))
            assert error_of(reply, stream=True)["code"] == "engine_error"
        assert await server.ended(LIMIT_S) == 1
        assert server.told == [line]


async def test_a_full_disk_keeps_nobody_from_an_answer(tmp_path: Path, full: int) -> None:
    async with started(tmp_path, stdout=full, stderr=full) as server:
        await server.ready()
        async with server.connect() as client:
            for stream in (False, True):
                assert search_of(await ask(client, stream=stream), stream=stream)["stopped_by"] is None
            assert (await client.post("/v1/chat/completions", content="{")).status_code == 415
            assert error_of(await ask(client, **question("die")), stream=False)["code"] == "engine_error"
        assert await server.ended(LIMIT_S) != 0


async def test_nothing_of_a_home_is_needed(tmp_path: Path) -> None:
    """Nor of a folder for what is temporary."""
    nowhere = str(tmp_path / "log" / "nowhere")
    environment = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), nowhere)
    async with started(tmp_path, environment=environment) as server:
        await server.ready()
        async with server.connect() as client:
            assert search_of(await ask(client), stream=False)["stopped_by"] is None
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended(LIMIT_S) == 0
        assert server.told == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_status_after_two_signals(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path) as server:
        await server.ready()
        async with server.connect() as client:
            stalled = asyncio.create_task(ask(client, **question("stall")))
            while "swires_queue_seconds_count 1.0" not in (await client.get("/metrics")).text:  # it has begun
                assert not stalled.done()
            server.process.send_signal(number)
            while (await client.get("/ready")).status_code == 200:
                pass
            server.process.send_signal(number)
            assert await server.ended(LIMIT_S) == 0
            with pytest.raises(httpx.TransportError):
                await stalled
        assert server.told == []
