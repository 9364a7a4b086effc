import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.running import Running, running

LIMIT_S = 30

Serving = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def serving() -> Serving:
    """Starts a server of ours over a fake engine, with any settings; a test that waits in vain within it fails."""

    @asynccontextmanager
    async def serve(engine: FakeEngine | None = None, **settings: object) -> AsyncIterator[Running]:
        async with asyncio.timeout(LIMIT_S), engine or FakeEngine() as started:
            app = create_app(started, {"fake": FakeScorer()}, Settings.model_validate({"model": "demo", **settings}))
            async with running(app) as server:
                yield server

    return serve
