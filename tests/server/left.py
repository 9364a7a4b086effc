"""What a server holds for its requests: nothing, once they are over."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from fastapi import FastAPI

from server.app import MAX_RENDERING
from server.service import Service

SETTLE_S = 5


async def nothing_left(app: FastAPI, tasks: Collection[asyncio.Task[Any]] | None = None) -> None:
    """Raises AssertionError where something of a request, or a task that is not of these, is still there after a
    while."""
    with suppress(TimeoutError):
        await until(lambda: not left(app, tasks), SETTLE_S)
    assert left(app, tasks) == {}


async def until(holds: Callable[[], bool], within_s: float) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


def left(app: FastAPI, tasks: Collection[asyncio.Task[Any]] | None = None) -> dict[str, object]:
    service: Service = app.state.service
    engine: Any = service.engine
    scheduler, callers = service.scheduler, service.callers
    shares = (callers._anybody.share, *callers._shares.values())
    new = [] if tasks is None else [task for task in asyncio.all_tasks() if task not in tasks and not _is_this(task)]
    held = {
        "searches that run": scheduler.num_running,
        "searches that wait": scheduler.num_waiting,
        "tasks of searches": len(scheduler._tasks),
        "capacity": scheduler._capacity - scheduler._line.free,
        "requests of the engine": engine.num_running,
        "requests that are watched": service.watched._num_waiting,
        "places at the gate": service.settings.max_arriving - service.gate._value,
        "places for rendering": MAX_RENDERING - service.rendering._value,
        "places of callers": sum(share._searches for share in shares),
        "tasks": new,
    }
    return {name: one for name, one in held.items() if one}


def _is_this(task: asyncio.Task[Any]) -> bool:
    return task is asyncio.current_task()
