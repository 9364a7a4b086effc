"""A client's side of the tests: requests, and ways to send them."""

import asyncio
import base64
import json
import math
from io import BytesIO
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image
from starlette.types import Message, Scope

Json = dict[str, Any]


def image_url(image: str | Image.Image = "red") -> str:
    """A small image of one colour, or `image` itself."""
    out = BytesIO()
    (Image.new("RGB", (8, 8), image) if isinstance(image, str) else image).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def chat(**fields: object) -> Json:
    """A request about an image, with any fields over it."""
    parts = [{"type": "image_url", "image_url": {"url": image_url()}}, {"type": "text", "text": "How many?"}]
    return {"model": "demo", "messages": [{"role": "user", "content": parts}], "seed": 1, **fields}


def connect(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None)


async def ask(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=chat(**fields))


def chunks(response: httpx.Response) -> list[Json]:
    """The chunks of a whole stream, which must end as it should."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines if not line.startswith(":")]


class Exchange:
    """The other side of one raw ASGI exchange; hangs up when told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.hang_up = asyncio.Event()
        self._more = asyncio.Condition()

    @property
    def lines(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message.get("body")]

    async def receive(self) -> Message:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        async with self._more:
            self.messages.append(message)
            self._more.notify_all()

    async def got(self, line: bytes) -> None:
        async with self._more:
            await self._more.wait_for(lambda: line in self.lines)


class RawRequest(Exchange):
    """A chat request that arrives in one piece."""

    def __init__(self, body: Json) -> None:
        super().__init__()
        self._body: bytes | None = json.dumps(body).encode()

    async def receive(self) -> Message:
        if self._body is None:
            return await super().receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def post(self, app: FastAPI) -> None:
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
        }
        await app(scope, self.receive, self.send)


class Held:
    """A step of the engine that, once armed, lets `free` tokens through and holds all after them until it is let go."""

    def __init__(self, free: int = 0) -> None:
        self._free = free
        self._left = math.inf
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self.cancelled = asyncio.Event()

    def arm(self) -> None:
        self._left = self._free

    async def __call__(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
