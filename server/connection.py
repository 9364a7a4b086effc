"""A connection that neither a client that is slow to ask nor one that does not read can hold for long."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 20
"""How long a client may take to send the head of a request."""

WRITE_TIMEOUT_S = 60
"""How long a client may read nothing of what waits for it."""


class Connection(H11Protocol):
    """uvicorn's, which waits for both without end. On h11, whose heads are bounded to 16 KiB, as httptools' are not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head, self._reading = Patience(self.loop), Patience(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head.begin(HEAD_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._head.begin(HEAD_TIMEOUT_S, self.transport.abort)
        else:
            self._head.end()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.begin(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head.end()
        self._reading.end()


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
