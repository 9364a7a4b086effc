"""The server as clients meet it: uvicorn on loopback, in this process."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai.types.chat import ChatCompletionMessageParam

from server.engine.fake import FakeEngine
from server.serve import bound, serve
from swires.errors import EngineError
from tests.server.client import Held, ask, chat
from tests.server.conftest import Started

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How many?"}]


@dataclass(frozen=True)
class Running:
    """A server under way; `task` is done when it has stopped."""

    url: str
    task: asyncio.Task[None]

    def connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=None)

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[Running, None]:
    loop = asyncio.get_running_loop()
    listening = loop.create_future()
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        task = asyncio.create_task(serve(app, sock, lambda: listening.set_result(None)))
        await listening
        try:
            yield Running(f"http://127.0.0.1:{port}", task)
        finally:
            if not task.done():
                signalled(signal.SIGTERM)
            await asyncio.wait((task,))


def signalled(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def test_openai_python_reads_an_answer(started: Started) -> None:
    async with started() as app, running(app) as server, server.openai() as client:
        models = await client.models.list()
        answer = await client.chat.completions.create(
            model=models.data[0].id, messages=MESSAGES, seed=3, extra_body={"swires": {"preset": "fast"}}
        )
    message = answer.choices[0].message
    assert message.content
    assert (message.model_extra or {})["reasoning"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.model_extra or {})["swires"]["preset"] == "fast"


async def test_openai_python_reads_a_stream(started: Started) -> None:
    async with started() as app, running(app) as server, server.openai() as client:
        whole = await client.chat.completions.create(model="demo", messages=MESSAGES, seed=3)
        stream = await client.chat.completions.create(
            model="demo", messages=MESSAGES, seed=3, stream=True, stream_options={"include_usage": True},
            extra_body={"swires": {"events": True}},
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    events = [(chunk.model_extra or {}).get("swires", {}).get("event") for chunk in chunks]
    assert {"stage_started", "search_finished"} <= set(events)


async def test_openai_python_names_what_was_wrong(started: Started) -> None:
    async with started() as app, running(app) as server, server.openai() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES, n=2)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert refused.value.param == "n"


async def test_openai_python_raises_on_an_error_in_a_stream(started: Started) -> None:
    async def fail() -> None:
        raise EngineError("gone")

    engine = FakeEngine()
    async with started(engine) as app, running(app) as server, server.openai() as client:
        engine._step = fail
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="engine failed"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("stream", [False, True])
async def test_a_closed_connection_frees_the_engine(started: Started, stream: bool) -> None:
    held = Held()
    async with started(FakeEngine(step=held)) as app, running(app) as server, server.connect() as client:
        held.arm()
        asking = asyncio.create_task(ask(client, stream=stream))
        await held.reached.wait()
        asking.cancel()
        async with asyncio.timeout(1):
            await held.cancelled.wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_searches_finish(started: Started, number: signal.Signals, stream: bool) -> None:
    held = Held()
    async with started(FakeEngine(step=held)) as app, running(app) as server, server.connect() as client:
        held.arm()
        asking = asyncio.create_task(ask(client, stream=stream))
        await held.reached.wait()
        signalled(number)
        while (await client.get("/ready")).status_code == 200:
            pass
        refused = await client.post("/v1/chat/completions", json=chat())
        assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (503, True)
        assert not server.task.done()
        held.let_go.set()
        answer = await asking
        assert answer.status_code == 200
        assert answer.text.endswith("data: [DONE]\n\n" if stream else "}")
        await server.task


async def test_a_signal_stops_an_idle_server(started: Started) -> None:
    async with started() as app, running(app) as server:
        signalled(signal.SIGTERM)
        await server.task
        async with server.connect() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/health")


async def test_a_second_signal_ends_searches(started: Started) -> None:
    held = Held()
    engine = FakeEngine(step=held)
    async with started(engine) as app, running(app) as server, server.connect() as client:
        held.arm()
        asking = asyncio.create_task(ask(client))
        await held.reached.wait()
        signalled(signal.SIGTERM)
        while (await client.get("/ready")).status_code == 200:
            pass
        signalled(signal.SIGTERM)
        await server.task
        assert engine.num_running == 0
        with pytest.raises(httpx.HTTPError):
            await asking


async def test_signals_are_given_back(started: Started) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with started() as app, running(app):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_dead_engine_ends_the_server(started: Started) -> None:
    engine = FakeEngine()
    async with started(engine) as app, running(app) as server:
        engine.alive = False
        with pytest.raises(EngineError, match="the engine died"):
            await server.task


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bound("127.0.0.1", taken.getsockname()[1])
