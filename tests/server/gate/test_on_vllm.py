"""The same cases on a running server over real vLLM."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from tests.server.gate.cases import CASES
from tests.server.running import running

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT_S = 60


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(vllm_engine: "VllmEngine", checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    known = checkpoints.load(str(checkpoint))
    scorers = make_scorers(vllm_engine, known, chosen_scorers(known, ()))
    settings = Settings.model_validate({"model": str(checkpoint), "served_name": "demo", "max_body_mib": 1})
    async with running(create_app(vllm_engine, scorers, settings)) as server, server.connect() as client:
        yield client


async def test_every_case(client: httpx.AsyncClient, vllm_engine: "VllmEngine") -> None:
    unlike = []
    for case in CASES:
        async with asyncio.timeout(LIMIT_S):
            reply = await client.post(case.path, content=case.body, headers=case.headers)
        if reply.status_code != case.status:
            unlike.append((str(case), reply.status_code, reply.text[:200]))
        assert (await client.get("/health")).status_code == 200
        assert vllm_engine.num_running == 0
    assert unlike == []
