"""The FastAPI app over a started engine."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from server import playground, sample
from server.account import Accounted
from server.callers import Callers
from server.errors import Refused, answer, failure
from server.fetch import Fetcher
from server.gate import Gate
from server.metrics import Metrics
from server.routes import router
from server.service import Service
from server.serving_engine import ServingEngine
from server.settings import MIB, Settings
from server.watchdog import Watched
from swires.errors import SwiresError
from swires.protocols import Scorer
from swires.scheduler import Scheduler
from swires.stages import Stage
from swires.types import Sampling

if TYPE_CHECKING:
    from server.tracing import Tracing

CLIENT_CLOSED_REQUEST = 499
WARM_UP_TOKENS = 8
MAX_RENDERING = 8
"""Requests whose images are held decoded at once: an image at the limit takes 130 MB with its transparency."""

NOT_MEASURED: Mapping[Stage, float] = {}

logger = logging.getLogger(__name__)


class App(FastAPI):
    """What keeps the accounts is its outermost layer, which sees the answers to unexpected errors too."""

    def build_middleware_stack(self) -> ASGIApp:
        return Accounted(super().build_middleware_stack(), self.state.tracing)


def create_app(
    engine: ServingEngine,
    scorers: Mapping[str, Scorer],
    settings: Settings,
    lengths: Mapping[Stage, float] = NOT_MEASURED,
    tracing: "Tracing | None" = None,
) -> FastAPI:
    """Serve `engine`, which the caller starts and stops, with `scorers` by name, the first the default; `lengths` are
    the tokens that a stage usually has. Raises KeysError."""
    watched = Watched(engine, settings.engine_stall_s)
    scheduler = Scheduler(
        watched,
        capacity=settings.max_candidates,
        max_waiting=settings.max_waiting,
        shrinks=settings.shrink_under_load,
        look_ahead=settings.look_ahead,
    )
    metrics = Metrics(scheduler, engine, settings.name)
    service = Service(
        engine,
        watched,
        metrics.watched_scorers(scorers),
        settings,
        scheduler,
        metrics,
        lengths,
        Callers(settings),
        Fetcher(settings.allow_image_hosts, max_bytes=settings.max_image_mib * MIB),
        gate=asyncio.Semaphore(settings.max_arriving),
        rendering=asyncio.Semaphore(MAX_RENDERING),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await warm_up(engine)
        yield
        await scheduler.drain()

    async def answer_error(request: Request, error: Exception) -> Response:
        told = failure(error)
        metrics.refused(told)
        if told.fault and isinstance(error, SwiresError):  # of others, uvicorn logs the trace
            logger.error("a request failed", exc_info=error)
        return answer(told)

    async def answer_nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app = App(lifespan=lifespan, openapi_url=None)
    app.state.service = service
    app.state.tracing = tracing
    app.include_router(router)
    app.add_middleware(Gate, metrics=metrics)
    app.add_route("/", playground.page)
    app.mount("/web", playground.FILES)
    for kind in (Refused, SwiresError, HTTPException, Exception):
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(ClientDisconnect, answer_nobody)
    return app


async def warm_up(engine: ServingEngine) -> None:
    """Take a small question through renderer and engine: the first one sets up what no client should wait for."""
    parts = [{"type": "image"}, {"type": "text", "text": sample.QUESTION}]
    problem = await engine.render([{"role": "user", "content": parts}], [sample.image()])
    sampling = Sampling(max_tokens=WARM_UP_TOKENS)
    async with aclosing(engine.generate(problem, (), stage=Stage.SUMMARY, n=1, sampling=sampling)) as chunks:
        async for _ in chunks:
            pass
