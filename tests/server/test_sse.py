import asyncio
import json
import math
from collections.abc import AsyncGenerator, Mapping

import pytest
from starlette.types import Message

from server.errors import Failure, Refused
from server.sse import DONE, KEEP_ALIVE, EventStream, encode
from swires.errors import EngineError
from tests.server.client import Exchange

Chunks = AsyncGenerator[Mapping[str, object], None]


def failed(told: Failure) -> list[dict[str, object]]:
    return [{"choices": [], **told.body}, {"choices": ["over"]}]


async def read(client: Exchange, chunks: Chunks, keep_alive_s: float = 15, last: bytes = DONE) -> None:
    stream = EventStream(chunks, keep_alive_s=keep_alive_s, failed=failed, last=last)
    await stream({"type": "http"}, client.receive, client.send)


async def test_chunks_then_done() -> None:
    async def chunks() -> Chunks:
        yield {"choices": [1]}
        yield {"choices": [2]}

    client = Exchange()
    await read(client, chunks())
    start, *_, last = client.messages
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers
    assert client.lines == [b'data: {"choices":[1]}\n\n', b'data: {"choices":[2]}\n\n', DONE]
    assert last["more_body"] is False


async def test_a_chunk_with_a_type_is_an_event_of_that_name_and_nothing_more_need_come() -> None:
    async def chunks() -> Chunks:
        yield {"type": "response.created", "sequence_number": 0}

    client = Exchange()
    await read(client, chunks(), last=b"")
    assert client.lines == [b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n']


async def test_an_error_before_the_first_chunk_is_raised_with_nothing_sent() -> None:
    async def chunks() -> Chunks:
        raise Refused("no")
        yield {}

    client = Exchange()
    with pytest.raises(Refused):
        await read(client, chunks())
    assert client.messages == []


async def test_an_error_after_the_first_chunk_is_told_in_the_last_chunks() -> None:
    async def chunks() -> Chunks:
        yield {"choices": []}
        raise EngineError("worker 3 at 10.0.0.7 died")

    client = Exchange()
    await read(client, chunks())
    _, error, over, done = client.lines
    assert over == encode({"choices": ["over"]})
    told = json.loads(error.removeprefix(b"data: "))
    assert told["choices"] == []
    assert told["error"]["code"] == "engine_error"
    assert b"10.0.0.7" not in error
    assert done == DONE


async def test_silence_is_filled_with_comments() -> None:
    client = Exchange()

    async def chunks() -> Chunks:
        await client.got(KEEP_ALIVE)
        yield {"choices": []}

    await read(client, chunks(), keep_alive_s=0.001)
    assert client.lines[0] == KEEP_ALIVE
    assert client.lines[-2:] == [encode({"choices": []}), DONE]


async def test_a_hang_up_closes_the_chunks() -> None:
    client, closed = Exchange(), asyncio.Event()

    async def chunks() -> Chunks:
        try:
            yield {"choices": []}
            client.hang_up.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    await read(client, chunks())
    assert closed.is_set()
    assert DONE not in client.lines


async def test_a_hang_up_before_the_first_chunk_closes_the_chunks() -> None:
    client, closed = Exchange(), asyncio.Event()

    async def chunks() -> Chunks:
        client.hang_up.set()
        try:
            await asyncio.Event().wait()
            yield {}
        finally:
            closed.set()

    await read(client, chunks())
    assert closed.is_set()
    assert client.messages == []


async def test_a_hang_up_while_the_client_does_not_read_closes_the_chunks() -> None:
    client, closed = Exchange(), asyncio.Event()

    async def stuck(message: Message) -> None:
        client.hang_up.set()
        await asyncio.Event().wait()

    async def chunks() -> Chunks:
        try:
            yield {}
        finally:
            closed.set()

    await EventStream(chunks(), keep_alive_s=15, failed=failed)({"type": "http"}, client.receive, stuck)
    assert closed.is_set()


def test_infinity_is_null() -> None:
    assert encode({"score": -math.inf}) == b'data: {"score":null}\n\n'
