"""The app in this process, from a bound socket until a signal: searches finish first, a second signal ends them.

An engine that dies ends it too. No other is started here: whatever supervises the process begins anew from nothing.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from server.connection import Connection, allow_connections
from server.service import Service
from swires.errors import EngineError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FLUSH_S = 5
"""How long a client may take to read the end of its answer once all searches are done."""

TICK_S = 1.0
"""How often the engine is looked at."""

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: these would close the door while searches still run."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    def stop_now(self) -> None:
        """Hang up on all clients, which cancels their searches."""
        self.should_exit = self.force_exit = True
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


def _wait(fault: str) -> None:
    """For as long as it takes to end."""


async def serve(
    app: FastAPI, sock: socket.socket, on_listening: Callable[[], None], on_fault: Callable[[str], None] = _wait
) -> None:
    """Answer requests on `sock` until SIGTERM or SIGINT. Raises EngineError when the engine has died and all searches
    have been answered with that; `on_fault` is told before."""
    service: Service = app.state.service

    async def watch() -> None:
        while (fault := service.fault) is None:
            await asyncio.sleep(TICK_S)
            service.watched.tick(TICK_S)
        logger.error("%s: the server ends", fault)
        on_fault(fault)
        service.scheduler.give_up(fault)
        server.should_exit = True

    async def drain() -> None:
        await service.scheduler.drain()
        server.should_exit = True

    def stop() -> None:
        if service.scheduler.draining:
            server.stop_now()
        else:
            tasks.create_task(drain())

    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",  # entered below, so that an error in it is raised
        log_config=None,
        access_log=False,  # `server.account` tells more
        server_header=False,
        timeout_graceful_shutdown=FLUSH_S,
    )
    allow_connections()
    server = Server(config, on_listening)
    async with app.router.lifespan_context(app), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        with _on_signal(stop):
            await server.serve([sock])
        watching.cancel()
    if service.fault:
        raise EngineError(service.fault, dead=True)


@contextmanager
def _on_signal(stop: Callable[[], None]) -> Generator[None, None, None]:
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def is_loopback(sock: socket.socket) -> bool:
    return ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


def bound(host: str, port: int) -> socket.socket:
    """A socket that nobody else can take while the engine starts; it listens only once there is something to serve."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
