"""Images at addresses: from allowed hosts alone, and never from inside a network."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from PIL import Image

from server import fetch
from server.errors import Refused
from server.fetch import Fetcher, is_public
from server.images import ImageSource
from tests.server.client import ask, connect
from tests.server.conftest import Started

MAX_BYTES = 10_000
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def red() -> bytes:
    Image.new("RGB", (8, 8), "red").save(out := BytesIO(), "PNG")
    return out.getvalue()


class Host:
    """An image host on loopback, which the fetcher takes for a public one; `asked` are the requests that reached it."""

    def __init__(self, answer: bytes | Answer) -> None:
        self._answer = answer
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(self._answer, bytes):
                writer.write(self._answer)
                await writer.drain()
            else:
                await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def hosting(answer: bytes | Answer) -> AsyncIterator[tuple[Host, Fetcher]]:
    host = Host(answer)
    async with await asyncio.start_server(host.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield (
            host,
            Fetcher(
                ["images.example"],
                max_bytes=MAX_BYTES,
                resolve=resolving("127.0.0.1"),
                admits=lambda address: True,
                ports={"http": port},
            ),
        )


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def ok(body: bytes, **headers: Any) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + body


async def fetched(fetcher: Fetcher, url: str = "http://images.example/a.png") -> str:
    return (await fetcher.inlined([ImageSource("here", url)]))[url]


async def refusal(fetcher: Fetcher, url: str = "http://images.example/a.png") -> Refused:
    with pytest.raises(Refused) as caught:
        await fetched(fetcher, url)
    assert caught.value.param == "here"
    assert "images.example" not in str(caught.value)
    return caught.value


async def test_an_image_of_an_allowed_host_is_fetched() -> None:
    async with hosting(ok(red(), Content_Type="text/html", Content_Length=len(red()))) as (host, fetcher):
        url = await fetched(fetcher, "HTTP://Images.Example/a.png?b=c")
        assert base64.b64decode(url.partition(",")[2]) == red()
        (request,) = host.asked
    assert request.startswith(b"GET /a.png?b=c HTTP/1.1\r\n")
    assert b"Host: images.example\r\n" in request
    assert b"Accept-Encoding: identity\r\n" in request
    assert not any(name in request.lower() for name in (b"cookie", b"authorization", b"referer"))


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/",
        "http://images.example.evil/",
        "http://evil/images.example",
        "http://evil#images.example",
        "http://evil?images.example",
        "http://images.example@evil/",
        "http://images.example:pass@images.example/",
        "http://images.example\\@127.0.0.1/",
        "http://images.example:22/",
        "http://images.example./",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http:///a.png",
        "http:images.example",
        "http://images.example/\na",
        "http://\u0131mages.example/",
        "http://images.example:99999/",
    ],
)
async def test_what_is_not_an_allowed_address_is_400_and_nothing_is_asked(url: str) -> None:
    async with hosting(ok(red())) as (host, fetcher):
        assert (await refusal(fetcher, url)).status == 400
    assert host.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
        ok(red(), Content_Length=len(red()) + 1),
    ],
)
async def test_a_host_that_does_not_give_it_is_422_and_asked_once(answer: bytes) -> None:
    async with hosting(answer) as (host, fetcher):
        assert (await refusal(fetcher)).status == 422
    assert len(host.asked) == 1


async def test_a_body_without_end_is_413() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b""))
        while True:
            writer.write(bytes(1000))
            await writer.drain()

    async with hosting(endless) as (_, fetcher):
        assert (await refusal(fetcher)).status == 413


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_host_that_hangs_or_drips_is_422(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while first:
            writer.write(b"x")
            await asyncio.sleep(0.01)
        await reader.read()

    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
    async with hosting(drips) as (_, fetcher):
        assert (await refusal(fetcher)).status == 422


async def test_a_name_that_leads_inside_is_422_and_nothing_is_asked() -> None:
    async with hosting(ok(red())) as (host, _):
        for addresses in (("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), (), ("::1",)):
            fetcher = Fetcher(["images.example"], max_bytes=MAX_BYTES, resolve=resolving(*addresses))
            assert (await refusal(fetcher)).status == 422
    assert host.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_inside(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_addresses_outside(address: str) -> None:
    assert is_public(ip_address(address))


async def test_by_default_nothing_is_fetched_and_an_answer_comes_from_what_was(started: Started) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "http://images.example/a.png"}}]
    messages = [{"role": "user", "content": parts}]
    async with started() as app, connect(app) as client, hosting(ok(red())) as (host, fetcher):
        refused = await ask(client, messages=messages)
        assert (refused.status_code, host.asked) == (400, [])
        object.__setattr__(app.state.service, "fetcher", fetcher)
        answer: httpx.Response = await ask(client, messages=messages)
        assert (answer.status_code, len(host.asked)) == (200, 1)
        markdown = [{"role": "user", "content": "![](http://images.example/b.png)"}]
        assert (await ask(client, messages=markdown)).status_code == 200
        assert len(host.asked) == 1
