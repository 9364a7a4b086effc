"""Heads of requests that are refused, as raw bytes on a socket; and connections that are given up."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Scope

from server import connection
from server.errors import Refused
from server.gate import MAX_HEADERS, check
from tests.server.conftest import Started
from tests.server.running import Running, running


@pytest_asyncio.fixture
async def server(serving: Started) -> AsyncIterator[Running]:
    async with serving() as app, running(app) as server:
        yield server


async def opened(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


async def told(server: Running, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the answer, at which the server hangs up."""
    reader, writer = await opened(server)
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + body)
    answer = await reader.read()
    writer.close()
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2]


MANY = "".join(f"x-{number}: 1\n" for number in range(MAX_HEADERS))
POST = "POST /v1/chat/completions HTTP/1.1\nHost: a\nContent-Type: application/json\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET /health HTTP/1.1\nHost: a\n{MANY}\n", 431),
        (f"GET /health HTTP/1.1\nHost: a\nx: {'y' * 40_000}\n\n", 431),
        (f"GET /{'y' * 40_000} HTTP/1.1\nHost: a\n\n", 431),
        (f"GET /health?{'y' * 40_000} HTTP/1.1\nHost: a\n\n", 431),
        ("GET /health HTTP/1.1\n\n", 400),
        ("GET /health HTTP/1.1\nHost: a/b?c\n\n", 400),
        ("GET /health HTTP/1.1\nHost: a b\n\n", 400),
        ("GET /health HTTP/1.1\nHost: a\nHost: b\n\n", 400),
        (f"{POST}Content-Length: 2\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        (f"{POST}Content-Length: -1\n\n", 400),
        (f"{POST}Content-Length: 1\nContent-Length: 2\n\n", 400),
        (f"{POST}Transfer-Encoding: gzip, chunked\n\n", 400),
        ("GET /health HTTP/9\nHost: a\n\n", 400),
        ("\x16\x03\x01\x02\x00", 400),
    ],
)
async def test_a_head_that_is_refused(server: Running, head: str, status: int) -> None:
    assert (await told(server, head))[0] == status
    async with server.connect() as client:
        assert (await client.get("/health")).status_code == 200


async def test_a_body_in_chunks_is_bounded_too(serving: Started) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with serving(max_body_mib=1) as app, running(app) as server:
        head = f"{POST}Connection: close\nTransfer-Encoding: chunked\n\n"
        assert (await told(server, head, chunk * 17 + b"0\r\n\r\n"))[0] == 413


def scope_to(host: bytes) -> Scope:
    return {"raw_path": b"/", "query_string": b"", "headers": [(b"host", host)]}


@pytest.mark.parametrize(
    "host", [b"a", b"localhost:8000", b"127.0.0.1:80", b"[::1]:8000", b"xn--mnchen-3ya.de", b"my_host.internal"]
)
def test_a_host_that_is_one(host: bytes) -> None:
    check(scope_to(host))


@pytest.mark.parametrize("host", [b"", b"a/b", b"a?b", b"a@b", b"a:b", b"a#", b"a\\b", b"::1", b"a, b", b"\xff"])
def test_a_host_that_is_none(host: bytes) -> None:
    with pytest.raises(Refused):
        check(scope_to(host))


async def test_a_client_that_does_not_finish_its_head_is_left(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    for begun in (b"", b"GET /health HT"):
        reader, writer = await opened(server)
        writer.write(begun)
        assert await ended(reader)
        writer.close()


async def test_a_second_head_on_a_connection_has_its_time_too(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    reader, writer = await opened(server)
    writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"GET /hea")
    assert await ended(reader)
    writer.close()


async def test_a_client_that_reads_nothing_is_left(serving: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.05)
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 20)
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def answer(request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    async with serving() as app:
        app.add_route("/endless", answer)
        async with running(app) as server:
            reader, writer = await opened(server)
            writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(10):
                await closed.wait()
            writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            return await reader.read() == b""
    except ConnectionError:
        return True
