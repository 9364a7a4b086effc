"""Server-sent events as OpenAI clients read them: chunks of JSON, and a comment where none comes for a while."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.disconnect import while_connected
from server.errors import Failure, failure

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

logger = logging.getLogger(__name__)


class EventStream(Response):
    """Streams `chunks`, then `last`, and closes them, at the latest when the client hangs up.

    The status goes out with the first chunk, or after `keep_alive_s` without one: an error before that is raised, to
    be answered with a status of its own; an error after that is told in the chunks that `failed` makes of it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncGenerator[Mapping[str, object], None],
        *,
        keep_alive_s: float,
        failed: Callable[[Failure], Iterable[Mapping[str, object]]],
        last: bytes = DONE,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.lines = kept_alive(encoded(chunks), keep_alive_s)
        self.failed = failed
        self.last = last
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):
            await while_connected(receive, self._stream(send))

    async def _stream(self, send: Send) -> None:
        async with aclosing(self.lines) as lines, aclosing(self._ended(lines)) as rest:
            head = await anext(lines)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(_body(head))
            async for line in rest:
                await send(_body(line))
            await send(_body(b"", more=False))

    async def _ended(self, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """`lines` after the status is out, and what ends them."""
        try:
            async for line in lines:
                yield line
        except Exception as error:
            told = failure(error)
            if told.fault:
                logger.exception("a stream failed")
            for chunk in self.failed(told):
                yield encode(chunk)
        if self.last:
            yield self.last


async def encoded(chunks: AsyncGenerator[Mapping[str, object], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield encode(chunk)


async def kept_alive(lines: AsyncGenerator[bytes, None], keep_alive_s: float) -> AsyncGenerator[bytes, None]:
    """`lines`, with a comment whenever none has come for `keep_alive_s` seconds."""
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read() -> None:
        async with aclosing(lines):
            async for line in lines:
                arrived.put_nowait(line)

    reading = asyncio.create_task(read())  # one for all lines, where a task for each would cost CPU
    reading.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (line := await _within(arrived, keep_alive_s)) is not None:
            yield line
        reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _within(arrived: asyncio.Queue[bytes | None], keep_alive_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(keep_alive_s):
            return await arrived.get()
    except TimeoutError:
        return KEEP_ALIVE


def encode(chunk: Mapping[str, object]) -> bytes:
    """An event has the name that its data has as `type`."""
    name = f"event: {chunk['type']}\n" if "type" in chunk else ""
    return name.encode() + b"data: " + to_json(chunk, inf_nan_mode="null") + b"\n\n"


def _body(line: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": line, "more_body": more}
