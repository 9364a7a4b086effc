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

Started = Callable[..., AbstractAsyncContextManager[FastAPI]]


@pytest.fixture
def started() -> Started:
    """Starts an app over a fake engine, with any settings."""

    @asynccontextmanager
    async def start(engine: FakeEngine | None = None, **settings: object) -> AsyncIterator[FastAPI]:
        scorers = {"fake": FakeScorer(), "other": FakeScorer()}
        async with engine or FakeEngine() as running:
            app = create_app(running, scorers, Settings.model_validate({"model": "demo", **settings}))
            async with app.router.lifespan_context(app):
                yield app

    return start


@pytest.fixture
async def client(started: Started) -> AsyncIterator[httpx.AsyncClient]:
    async with started() as app, connect(app) as client:
        yield client
