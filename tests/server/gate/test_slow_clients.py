"""Clients that send or read as slowly as they can, over sockets: they are left, others are served meanwhile."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server import connection, routes
from server.connection import Connection
from tests.server.client import ask, chat
from tests.server.conftest import Started
from tests.server.gate.raw import HEAD, ended, head, opened, post, until
from tests.server.gate.verbose import Verbose, at_length
from tests.server.left import nothing_left
from tests.server.running import running

SOON_S = 0.1
WINDOW = 4096


async def dripped(writer: asyncio.StreamWriter, data: bytes) -> None:
    """A byte at a time, for as long as somebody takes it."""
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)


@asynccontextmanager
async def dripping(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    task = asyncio.create_task(dripped(writer, b" " * 10_000))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


async def test_a_body_that_drips_is_408_in_the_end(serving: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_TIMEOUT_S", 5 * SOON_S)
    monkeypatch.setattr(connection, "REST_TIMEOUT_S", SOON_S)
    async with serving() as app, running(app) as server, server.connect() as client:
        reader, writer = await opened(server)
        writer.write(head(10_000))
        async with dripping(writer):
            assert (await ask(client)).status_code == 200
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"408"
            assert b"request_timeout" in await ended(reader)
        await nothing_left(app)


@pytest.mark.parametrize(
    "request_head",
    [
        HEAD.replace("application/json", "text/plain").encode() + b"Content-Length: 10000\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n",
        HEAD.replace("Host: a", "Host: a/b").encode() + b"Content-Length: 10000\r\n\r\n",
    ],
    ids=["refused", "answered", "at the gate"],
)
async def test_who_goes_on_sending_when_all_is_said_is_left(
    serving: Started, monkeypatch: pytest.MonkeyPatch, request_head: bytes
) -> None:
    monkeypatch.setattr(connection, "REST_TIMEOUT_S", SOON_S)
    async with serving() as app, running(app) as server:
        reader, writer = await opened(server)
        writer.write(request_head)
        async with dripping(writer):
            await reader.readuntil(b"\r\n\r\n")
            await ended(reader)
        await nothing_left(app)


async def test_a_body_that_comes_after_its_answer_is_let_in(serving: Started) -> None:
    """Of a client that sends all before it reads."""
    async with serving() as app, running(app) as server:
        reader, writer = await opened(server)
        refused = head(10).replace(b"application/json", b"text/plain")
        writer.write(refused)
        await reader.readuntil(b"HTTP/1.1 415")
        writer.write(b" " * 10 + post(chat()))
        await reader.readuntil(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("length", [20_000, 2_000_000])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_reads_nothing_keeps_nothing(
    serving: Started, monkeypatch: pytest.MonkeyPatch, stream: bool, length: int
) -> None:
    """Its answer may be so short that the transport would take all of it."""
    transports: list[asyncio.Transport] = []
    made = Connection.connection_made

    def with_small_buffer(self: Connection, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)
        transports.append(transport)
        made(self, transport)

    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 3 * SOON_S)
    monkeypatch.setattr(Connection, "connection_made", with_small_buffer)
    async with serving(Verbose(length)) as app, running(app) as server, server.connect() as client:
        _, writer = await opened(server, window=WINDOW)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        writer.write(post(chat(messages=at_length(), stream=stream, swires={"policy": "greedy"})))
        await until(lambda: bool(transports) and transports[0].get_write_buffer_size() > 0)
        await until(lambda: transports[0].is_closing() and not transports[0].get_write_buffer_size())
        await nothing_left(app)
        assert (await client.get("/health")).status_code == 200
        writer.close()
