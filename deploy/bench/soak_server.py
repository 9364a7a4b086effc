"""The server that is soaked, with one route more, which tells what it holds: `fake`, or `serve` as of `swires`, and the
options of that."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import uvloop
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import cli, commands
from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.serve import bound, serve
from server.settings import Settings
from swires.errors import EngineError

HELD = "/held"
FAILURES_PER_TOKEN = 1e-5
"""Of the fake engine, which gives up a candidate then; of a thousand searches two have no other at that moment."""


def main(arguments: Sequence[str]) -> int:
    command, *options = arguments
    if command == "serve":
        commands.create_app = _telling_app  # type: ignore[attr-defined]
        return cli.main(arguments)
    logging.disable()  # of failures
    uvloop.run(_serve_fake(dict(zip(options[::2], options[1::2], strict=True))))
    return 0


async def _serve_fake(options: dict[str, str]) -> None:
    settings = Settings.model_validate({name.removeprefix("--").replace("-", "_"): options[name] for name in options})
    chance = Random(1)

    async def step() -> None:
        await asyncio.sleep(0)
        if chance.random() < FAILURES_PER_TOKEN:
            raise EngineError("failed")

    async with FakeEngine(step=step) as engine:
        app = _telling_app(engine, {"fake": FakeScorer()}, settings)
        await serve(app, bound(settings.host, settings.port), lambda: None)


def _telling_app(*arguments: Any, **more: Any) -> FastAPI:
    app = create_app(*arguments, **more)
    app.add_route(HELD, _held)
    return app


async def _held(request: Request) -> Response:
    service: Any = request.app.state.service
    tasks = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
    searches = service.scheduler.num_running + service.scheduler.num_waiting
    return JSONResponse({"tasks": tasks, "searches": searches, "requests": service.engine.num_running})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
