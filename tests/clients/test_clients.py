"""Clients at their current release, each in an environment of its own, through a server on real vLLM."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import uv

from deploy.install import torch_sources
from server import sample
from server.images import data_url
from tests.clients.page import CLIENTS, LMMS, PAGE, REMEDY, SCRIPTS, listed, requirements, with_row
from tests.server.client import Json, chat
from tests.server.docs.pages import ROOT
from tests.server.running import Running, running_checkpoint

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

MODEL = "demo:fast"
IMAGE = data_url(sample.image().quantize(4))
LIMIT_S = 300
"""For what has to be downloaded, too."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks GitHub for prices
    "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
}


def test_the_page_lists_every_client() -> None:
    assert listed(PAGE.read_text()) == {client.name: client.version for client in (*CLIENTS.values(), LMMS)}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(vllm_engine: "VllmEngine", checkpoint: Path) -> AsyncIterator[Running]:
    async with running_checkpoint(vllm_engine, checkpoint) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def answer(server: Running) -> Json:
    """What the server says without any of the clients."""
    parts = [{"type": "image_url", "image_url": {"url": IMAGE}}, {"type": "text", "text": sample.QUESTION}]
    body = chat(model=MODEL, messages=[{"role": "user", "content": parts}], temperature=0, seed=None)
    async with server.connect() as client:
        reply = await client.post("/v1/chat/completions", json=body)
    message: Json = reply.json()["choices"][0]["message"]
    return message


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem.removeprefix("with_"))
async def test_client(server: Running, answer: Json, script: Path, write_docs: bool) -> None:
    told = await tried(script, server.url)
    for what, got in told.items():
        assert got == {key: answer[key] for key in got}, what
    client = CLIENTS[script]
    row = client.row(told)
    if write_docs:
        PAGE.write_text(with_row(PAGE.read_text(), client, row))
    if row not in PAGE.read_text().splitlines():
        pytest.fail(f"{REMEDY}\n{row}", pytrace=False)


async def tried(script: Path, url: str) -> dict[str, Json]:
    process = await asyncio.create_subprocess_exec(
        *command(script),
        *(url, MODEL, sample.QUESTION, IMAGE),
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, complaints = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, complaints.decode()
    told: dict[str, Json] = json.loads(printed.splitlines()[-1])
    assert told
    return told


def command(script: Path) -> list[str | Path]:
    """By uv, which keeps the environments that it has made in its cache."""
    if "/// script" not in script.read_text():
        return [sys.executable, script]
    needs_torch = any(each.startswith("torch==") for each in requirements(script))
    sources = torch_sources(Path(sys.executable)) if needs_torch else ()
    return [uv.find_uv_bin(), "run", "--quiet", "--python", sys.executable, *sources, "--script", script]
