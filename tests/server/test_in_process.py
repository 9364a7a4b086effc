"""The app without a socket: an answer is read as it comes, and closing it is a hang-up."""

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from server.engine.fake import FakeEngine
from server.in_process import InProcess
from tests.server.client import Held, chat
from tests.server.conftest import Started

URL = "http://in-process"


def connect(app: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=InProcess(app), base_url=URL)  # type: ignore[arg-type]


async def test_answers_are_those_of_a_server(started: Started) -> None:
    async with started() as app, connect(app) as client:
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "demo"
        refused = await client.post("/v1/chat/completions", json=chat(temperature=9))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


async def test_a_stream_is_read_while_it_comes_and_closing_it_ends_the_search(serving: Started) -> None:
    engine = FakeEngine(step=(step := Held(free=8)))
    async with serving(engine) as app, connect(app) as client:
        step.arm()
        async with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response:
            assert "data:" in await anext(response.aiter_text())
            await step.reached.wait()
        assert step.cancelled.is_set()
        assert engine.num_running == 0


async def test_a_request_that_is_cancelled_is_a_hang_up(serving: Started) -> None:
    engine = FakeEngine(step=(step := Held()))
    async with serving(engine) as app, connect(app) as client:
        step.arm()
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await step.reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert engine.num_running == 0


@pytest.mark.parametrize("begun", [False, True])
async def test_an_app_that_ends_within_an_answer_is_an_error(begun: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    async with connect(app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
