"""A whole `swires serve` over real vLLM, of which processes are stopped and killed."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from server import sample
from tests.server.client import Json, chat, image_url
from tests.server.faults.answers import error_of, search_of
from tests.server.faults.process import REAL, Served, cores_of, descendants, lives, started
from tests.server.left import until

ANSWERED_S = 5
ENDED_S = 120
STALL_S = 5
NUM_BLOCKS = 33
"""Of 32 tokens: one answer as long as the context fills them, and one is vLLM's own."""

TINY_CACHE = ("--", "--num-gpu-blocks-override", str(NUM_BLOCKS))

Record = Callable[[str, object], None]


def question(**fields: object) -> Json:
    """One that takes its time."""
    parts = [
        {"type": "image_url", "image_url": {"url": image_url(sample.image())}},
        {"type": "text", "text": sample.QUESTION},
    ]
    swires = {"preset": "thorough", "accept_z": 100, **fields.pop("swires", {})}  # type: ignore[dict-item]
    return chat(messages=[{"role": "user", "content": parts}], swires=swires, **fields)


async def asked(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=question(**fields))


async def metric(client: httpx.AsyncClient, name: str) -> float:
    page = (await client.get("/metrics")).text
    return sum(map(float, re.findall(rf"^{name}(?:\{{[^\n]*\}})? (\S+)$", page, re.MULTILINE)))


async def nothing_is_left(client: httpx.AsyncClient) -> None:
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "swires_active_searches")
    async with asyncio.timeout(ANSWERED_S):
        while any([await metric(client, name) for name in (*names, "swires_waiting_searches")]):
            pass


async def test_a_small_cache_then_a_core_that_stalls_then_one_that_is_killed(
    tmp_path: Path, record_property: Record
) -> None:
    """One server for all of them."""
    async with started(tmp_path, *TINY_CACHE, command=REAL) as server:
        await server.ready()
        async with server.connect() as client:
            await more_than_the_cache_holds(client)
            await a_core_that_stands_still(server, client)
            await a_core_that_is_killed(server, client, record_property)


async def more_than_the_cache_holds(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(ENDED_S):
        replies = await asyncio.gather(*(asked(client, seed=seed, stream=seed % 2 == 1) for seed in range(8)))
    for seed, reply in enumerate(replies):
        assert search_of(reply, stream=seed % 2 == 1)["stopped_by"] in (None, "generations")
    assert await metric(client, "vllm:num_preemptions_total") > 0
    await nothing_is_left(client)


async def a_core_that_stands_still(server: Served, client: httpx.AsyncClient) -> None:
    (core,) = cores_of(server)
    os.kill(core, signal.SIGSTOP)
    start = time.monotonic()
    for stream in (False, True):
        reply = await asked(client, stream=stream, swires={"timeout_s": 1})
        assert error_of(reply, stream=stream)["code"] == "deadline_exceeded"
    assert time.monotonic() - start < 20
    assert (await client.get("/health")).status_code == 200
    os.kill(core, signal.SIGCONT)
    assert search_of(await asked(client), stream=False)["generations"] > 0
    await nothing_is_left(client)


async def a_core_that_is_killed(server: Served, client: httpx.AsyncClient, record_property: Record) -> None:
    processes, (core,) = descendants(server.process.pid), cores_of(server)
    crowd = [asyncio.create_task(asked(client, seed=seed)) for seed in range(8)]  # so that all take seconds
    async with client.stream("POST", "/v1/chat/completions", json=question(stream=True, seed=8)) as reply:
        lines = reply.aiter_lines()
        async for line in lines:
            if '"reasoning"' in line:
                break
        os.kill(core, signal.SIGKILL)
        start = time.monotonic()
        rest = [line async for line in lines if line]
        record_property("stream_ended_s", round(time.monotonic() - start, 2))
    answers = await asyncio.gather(*crowd)
    record_property("answered_s", answered_s := round(time.monotonic() - start, 2))
    assert answered_s < ANSWERED_S
    failed = [error_of(answer, stream=False)["code"] for answer in answers if answer.status_code != httpx.codes.OK]
    assert set(failed) == {"engine_error"}
    assert [line for line in rest if "error" in line] == rest[-2:-1]
    assert rest[-1] == "data: [DONE]"
    assert await health(client) in (503, None)
    assert await server.ended(ENDED_S) == 1
    record_property("ended_s", round(time.monotonic() - start, 2))
    assert server.told == ["swires: the engine died"]
    assert await health(client) is None
    await until(lambda: not any(map(lives, processes)), ENDED_S)


async def health(client: httpx.AsyncClient) -> int | None:
    """None where nobody answers."""
    try:
        return (await client.get("/health")).status_code
    except httpx.TransportError:
        return None


async def test_a_signal_while_the_engine_loads_ends_all_at_once(tmp_path: Path) -> None:
    async with started(tmp_path, command=REAL) as server:
        await until(lambda: bool(cores_of(server)), ENDED_S)
        processes = descendants(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended(20) == 128 + signal.SIGTERM
        assert server.told == []
        await until(lambda: not any(map(lives, processes)), 20)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_core_that_stalls_or_a_worker_that_is_killed_ends_the_process(
    tmp_path: Path, number: signal.Signals, record_property: Record
) -> None:
    async with started(tmp_path, "--engine-stall-s", str(STALL_S), command=REAL) as server:
        await server.ready()
        processes, (core,) = descendants(server.process.pid), cores_of(server)
        victim = core if number == signal.SIGSTOP else descendants(core)[0]
        async with server.connect() as client:
            whole = asyncio.create_task(asked(client))
            while not await metric(client, "vllm:num_requests_running"):
                assert not whole.done()
            os.kill(victim, number)
            start = time.monotonic()
            assert error_of(await whole, stream=False)["code"] == "engine_error"
            record_property("answered_s", answered_s := round(time.monotonic() - start, 2))
            assert answered_s < STALL_S + ANSWERED_S
        assert await server.ended(ENDED_S) == 1
        record_property("ended_s", round(time.monotonic() - start, 2))
        await until(lambda: not any(map(lives, processes)), ENDED_S)
