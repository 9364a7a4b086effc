"""The server as clients meet it: uvicorn on loopback, in this process."""

import asyncio
import signal
import socket
from typing import Literal

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from server.engine.fake import FakeEngine
from server.serve import bound
from swires.errors import EngineError
from tests.server.client import Held, ask, chat
from tests.server.conftest import Started
from tests.server.running import running, signalled

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How many?"}]


async def test_openai_python_reads_an_answer(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
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


async def test_openai_python_reads_a_stream(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
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


class Count(BaseModel):
    count: int
    thing: Literal["circles", "squares"]


async def test_openai_python_parses_an_answer_by_its_schema(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
        answer = await client.chat.completions.parse(
            model="demo", messages=MESSAGES, n=2, logprobs=True, top_logprobs=2, response_format=Count
        )
        async with client.chat.completions.stream(
            model="demo", messages=MESSAGES, n=2, logprobs=True, response_format=Count
        ) as stream:
            streamed = await stream.get_final_completion()
    for choices in (answer.choices, streamed.choices):
        for choice in choices:
            assert isinstance(choice.message.parsed, Count)
            assert choice.logprobs is not None
            assert "".join(token.token for token in choice.logprobs.content or ()) == choice.message.content
        assert len(choices) == 2


async def test_openai_python_names_what_was_wrong(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES, n=0)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert refused.value.param == "n"


async def test_openai_python_raises_on_an_error_in_a_stream(serving: Started) -> None:
    async def fail() -> None:
        raise EngineError("gone")

    engine = FakeEngine()
    async with serving(engine) as app, running(app) as server, server.openai() as client:
        engine._step = fail
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="engine failed"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("stream", [False, True])
async def test_a_closed_connection_frees_the_engine(serving: Started, stream: bool) -> None:
    held = Held()
    async with serving(FakeEngine(step=held)) as app, running(app) as server, server.connect() as client:
        held.arm()
        asking = asyncio.create_task(ask(client, stream=stream))
        await held.reached.wait()
        asking.cancel()
        async with asyncio.timeout(1):
            await held.cancelled.wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_searches_finish(serving: Started, number: signal.Signals, stream: bool) -> None:
    held = Held()
    async with serving(FakeEngine(step=held)) as app, running(app) as server, server.connect() as client:
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


async def test_a_signal_stops_an_idle_server(serving: Started) -> None:
    async with serving() as app, running(app) as server:
        signalled(signal.SIGTERM)
        await server.task
        async with server.connect() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/health")


async def test_a_second_signal_ends_searches(serving: Started) -> None:
    held = Held()
    engine = FakeEngine(step=held)
    async with serving(engine) as app, running(app) as server, server.connect() as client:
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


async def test_signals_are_given_back(serving: Started) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with serving() as app, running(app):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_dead_engine_ends_the_server(serving: Started) -> None:
    engine = FakeEngine()
    async with serving(engine) as app, running(app) as server:
        engine.alive = False
        with pytest.raises(EngineError, match="the engine died"):
            await server.task


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bound("127.0.0.1", taken.getsockname()[1])
