"""Server-sent events as OpenAI clients read them: chunks of JSON, and a comment where none comes for a while."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

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
        self.chunks = chunks
        self.keep_alive_s = keep_alive_s
        self.failed = failed
        self.last = last
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):
            await while_connected(receive, self._stream(send))

    async def _stream(self, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        wire = Wire(send, start)
        async with aclosing(self.chunks) as chunks, wire.kept_alive(self.keep_alive_s):
            try:
                async for chunk in chunks:
                    await wire.write(encode(chunk))
            except Exception as error:
                if not wire.started:
                    raise
                for chunk in self._failed(error):
                    await wire.write(encode(chunk))
        await wire.write(self.last, more=False)

    def _failed(self, error: Exception) -> Iterable[Mapping[str, object]]:
        told = failure(error)
        if told.fault:
            logger.error("a stream failed", exc_info=error)
        return self.failed(told)


class Wire:
    """A response in parts, whose `start` goes out with the first."""

    def __init__(self, send: Send, start: Message) -> None:
        self.started = False
        self._send = send
        self._start = start
        self._turn = asyncio.Lock()
        self._written_s = 0.0

    async def write(self, line: bytes, *, more: bool = True) -> None:
        async with self._turn:
            if not self.started:
                self.started = True
                await self._send(self._start)
            await self._send({"type": "http.response.body", "body": line, "more_body": more})
        self._written_s = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def kept_alive(self, keep_alive_s: float) -> AsyncGenerator[None, None]:
        """A comment goes out whenever nothing else has for so long."""
        commenting = asyncio.create_task(self._comment(keep_alive_s))
        try:
            yield
        finally:
            commenting.cancel()
            await asyncio.gather(commenting, return_exceptions=True)

    async def _comment(self, keep_alive_s: float) -> None:
        """One timer for all parts, where one for each would cost CPU."""
        now = asyncio.get_running_loop().time
        self._written_s = now()
        while True:
            await asyncio.sleep(self._written_s + keep_alive_s - now())
            if now() >= self._written_s + keep_alive_s:
                await self.write(KEEP_ALIVE)


def encode(chunk: Mapping[str, object]) -> bytes:
    """An event has the name that its data has as `type`."""
    name = f"event: {chunk['type']}\n" if "type" in chunk else ""
    return name.encode() + b"data: " + to_json(chunk, inf_nan_mode="null") + b"\n\n"
