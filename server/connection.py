"""A connection that neither a client that is slow to ask nor one that does not read can hold for long."""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 20
"""How long a client may take to send the head of a request."""

WRITE_TIMEOUT_S = 60
"""How long a client may leave unread what waits for it."""

REST_TIMEOUT_S = 30
"""How long a client may go on sending a request that has been answered."""

MAX_AHEAD_BYTES = 64 * 1024
"""Of further requests, read while one is answered: where nothing is read, no hang-up is noticed."""

MAX_CONNECTIONS = 65_536


def allow_connections() -> None:
    """Each takes an open file, of which a shell allows 1024 unless it is asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Connection(H11Protocol):
    """uvicorn's, which waits for both without end. On h11, whose heads are bounded to 16 KiB, as httptools' are not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head, self._rest, self._reading = Patience(self.loop), Patience(self.loop), Patience(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # whatever is unread counts
        self._head.begin(HEAD_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._head.begin(HEAD_TIMEOUT_S, self.transport.abort)
        else:
            self._head.end()
        if self.conn.their_state is not h11.SEND_BODY:
            self._rest.end()
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) <= MAX_AHEAD_BYTES:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._rest.begin(REST_TIMEOUT_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.begin(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for patience in (self._head, self._rest, self._reading):
            patience.end()


class Patience:
    """Runs out once, unless it ends before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, run_out: Callable[[], None]) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, run_out)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
