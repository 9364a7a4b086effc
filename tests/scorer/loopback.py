"""An HTTP server on 127.0.0.1 that does as told, well or badly."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[Json], bytes | None]
"""From a request's body to the whole reply as it goes over the wire; None for none, ever."""


@dataclass(frozen=True)
class Asked:
    path: str
    head: str
    body: Json


@dataclass
class Loopback:
    answer: Answer
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    num_open: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no client is there."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_open += 1
        self.left.clear()
        try:
            await self._reply(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self.num_open -= 1
            if not self.num_open:
                self.left.set()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (length,) = re.findall(r"content-length: (\d+)", head, re.IGNORECASE)
        body = json.loads(await reader.readexactly(int(length)))
        self.asked.append(Asked(head.split()[1], head, body))
        self.reached.set()
        reply = self.answer(body)
        if reply is None:
            await reader.read()  # until the client leaves
        else:
            writer.write(reply)


@asynccontextmanager
async def loopback(answer: Answer) -> AsyncGenerator[Loopback, None]:
    running = Loopback(answer)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield running
        server.close()
        if running.num_open:
            await running.left.wait()


def http(status: str, body: str, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


def ok(body: object) -> bytes:
    return http("200 OK", json.dumps(body))


FAULTS: dict[str, tuple[bytes | None, str]] = {
    "stalls": (None, "does not answer: ReadTimeout"),
    "hangs up": (b"", "does not answer: Server disconnected"),
    "breaks off": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "does not answer: peer closed"),
    "is no HTTP": (b"220 mail.example.com\r\n\r\n", "does not answer: illegal status line"),
    "is busy": (http("429 Too Many Requests", "{}"), "answers 429"),
    "fails": (http("500 Internal Server Error", "Traceback\nof it"), "answers 500: Traceback of it"),
    "is elsewhere": (http("307 Temporary Redirect", "", Location="http://127.0.0.1:1/"), "answers 307"),
    "talks": (http("200 OK", "Welcome!"), "answers what cannot be read: the body: Invalid JSON"),
    "is another API": (http("200 OK", '{"error": null}'), "Field required"),
    "has nothing": (http("200 OK", '{"data": [], "choices": []}'), "at least 1 item"),
    "says NaN": (http("200 OK", '{"data": [{"probs": [NaN]}], "choices": [{"message": {"content": NaN}}]}'), "Input "),
}
"""Replies that tell no score, each with what is said of it."""
