"""Requests as bytes on a socket, for clients that are slow, leave, or never read."""

import asyncio
import json
import socket
from collections.abc import Callable

from tests.server.client import Json
from tests.server.running import Running

LIMIT_S = 20
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def post(body: Json, *headers: str) -> bytes:
    data = json.dumps(body).encode()
    return head(len(data), *headers) + data


def head(length: int, *headers: str) -> bytes:
    """That of a request whose body has so many bytes."""
    lines = "".join(f"{header}\r\n" for header in (*headers, f"Content-Length: {length}"))
    return f"{HEAD}{lines}\r\n".encode()


async def opened(server: Running, *, window: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; with a `window`, one that takes little before it has been read."""
    sock = socket.socket()
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port(server.url)))
    return await asyncio.open_connection(sock=sock)


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What there is to read until the server hangs up."""
    data = b""
    async with asyncio.timeout(LIMIT_S):
        try:
            while piece := await reader.read(1 << 16):
                data += piece
        except ConnectionError:
            pass
    return data


async def until(condition: Callable[[], bool]) -> None:
    """Raises AssertionError where it does not come to that."""
    for _ in range(LIMIT_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError
