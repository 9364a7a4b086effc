"""Each of the cases over HTTP on the fake engine, and what holds after every one: the server lives, nothing is left."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.client import chunks, connect
from tests.server.gate.cases import CASES, Case

LIMIT_S = 10
INTERNALS = ("0x", "Traceback", "site-packages", "pydantic", "PIL", "<class")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as engine:
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate({"model": "demo", "max_body_mib": 1})
    app = create_app(engine, {"fake": FakeScorer()}, settings)
    async with app.router.lifespan_context(app), connect(app) as client:
        yield client


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_case(client: httpx.AsyncClient, engine: FakeEngine, case: Case) -> None:
    async with asyncio.timeout(LIMIT_S):
        reply = await client.post(case.path, content=case.body, headers=case.headers)
    assert reply.status_code == case.status, reply.text[:500]
    if case.status != 200:
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert case.param in (None, error["param"])
        assert len(reply.text) < 2000
        assert not any(word in reply.text for word in INTERNALS)
    assert (await client.get("/health")).status_code == 200
    assert engine.num_running == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_the_server_answers_as_before(client: httpx.AsyncClient) -> None:
    """After all of them; a stream, since most of the cases were none."""
    (answered, *_) = [case for case in CASES if case.status == 200]
    body = answered.body[:-1] + b', "stream": true}'
    assert chunks(await client.post(answered.path, content=body, headers=answered.headers))
