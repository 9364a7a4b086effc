import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.client import connect

LIMIT_S = 30

Started = Callable[..., AbstractAsyncContextManager[FastAPI]]


@pytest.fixture
def serving() -> Started:
    """Makes an app over a started fake engine, with any settings; a test that waits in vain within it fails."""

    @asynccontextmanager
    async def make(engine: FakeEngine | None = None, **settings: object) -> AsyncIterator[FastAPI]:
        scorers = {"fake": FakeScorer(), "other": FakeScorer()}
        async with asyncio.timeout(LIMIT_S), engine or FakeEngine() as running:
            yield create_app(running, scorers, Settings.model_validate({"model": "demo", **settings}))

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
