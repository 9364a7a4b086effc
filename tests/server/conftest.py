import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.protocols import Scorer
from tests.server.client import connect
from tests.server.left import nothing_left

LIMIT_S = 30
SCORERS: Mapping[str, Scorer] = {"fake": FakeScorer(), "other": FakeScorer()}

Started = Callable[..., AbstractAsyncContextManager[FastAPI]]


@pytest.fixture
def serving() -> Started:
    """Makes an app over a started fake engine, with any settings. A test that waits in vain within it fails, and one
    that leaves it while anything of a request is still there."""

    @asynccontextmanager
    async def make(
        engine: FakeEngine | None = None, *, scorers: Mapping[str, Scorer] = SCORERS, **settings: object
    ) -> AsyncIterator[FastAPI]:
        async with asyncio.timeout(LIMIT_S), engine or FakeEngine() as running:
            tasks = asyncio.all_tasks()
            app = create_app(running, scorers, Settings.model_validate({"model": "demo", **settings}))
            yield app
            await nothing_left(app, tasks)

    return make


@pytest.fixture
def started(serving: Started) -> Started:
    """Makes an app that is past its start."""

    @asynccontextmanager
    async def start(engine: FakeEngine | None = None, **settings: object) -> AsyncIterator[FastAPI]:
        async with serving(engine, **settings) as app, app.router.lifespan_context(app):
            yield app

    return start


@pytest.fixture
async def client(started: Started) -> AsyncIterator[httpx.AsyncClient]:
    async with started() as app, connect(app) as client:
        yield client
