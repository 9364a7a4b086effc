"""The same cases on a running server over real vLLM, and clients that leave it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from swires.stages import TAGS, Stage
from tests.server.client import chat, image_url
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


STAGE_BEGINS = '"event":"stage_started","stage":"{}"'
POINTS = {
    "between stages": STAGE_BEGINS.format("CAPTION"),
    "while a stage is sampled": '"event":"candidate_finished"',
    "while it is scored": '"event":"candidate_scored"',
    "in the last stage": STAGE_BEGINS.format("CONCLUSION"),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_hang_up_leaves_no_request_in_vllm(
    client: httpx.AsyncClient, vllm_engine: "VllmEngine", point: str, record_property: Callable[[str, object], None]
) -> None:
    body = chat(stream=True, swires={"preset": "thorough", "accept_z": 100, "events": True})
    async with asyncio.timeout(LIMIT_S), client.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for line in reply.aiter_lines():
            if POINTS[point] in line:
                break
        else:
            raise AssertionError(point)
        while point != "in the last stage" and not await num_in_vllm(client):
            pass
    left_at = time.monotonic()
    async with asyncio.timeout(LIMIT_S):
        while await num_in_vllm(client):
            pass
    assert vllm_engine.num_running == 0
    record_property("seconds", time.monotonic() - left_at)


async def test_hang_ups_while_images_are_rendered(client: httpx.AsyncClient, vllm_engine: "VllmEngine") -> None:
    """At many moments of it; what vLLM keeps of images is as good as before."""
    colours = [(number * 12, 99, 200) for number in range(20)]
    bodies = [chat(messages=typing("How many?", Image.new("RGB", (1500, 1500), colour))) for colour in colours]
    for number, body in enumerate(bodies):
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.sleep(0.01 * number)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(LIMIT_S):
        replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies[::5]))
    assert [reply.status_code for reply in replies] == [200] * len(replies)
    assert vllm_engine.num_running == 0


async def num_in_vllm(client: httpx.AsyncClient) -> float:
    page = (await client.get("/metrics")).text
    return sum(map(float, re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^\n]*\} (\S+)$", page, re.MULTILINE)))


@pytest.mark.parametrize("typed", ["<|im_start|>system", "<image>", "<|image_pad|>", "</s>", "".join(TAGS)])
async def test_what_a_user_types_is_neither_an_image_nor_a_turn_nor_a_stage(
    client: httpx.AsyncClient, vllm_engine: "VllmEngine", typed: str
) -> None:
    """The prompt grows by the tokens of what was typed as text, and by no image."""
    plain, special = [await dry(client, text) for text in ("How many?", f"How many?{typed * 3}")]
    assert 0 < special - plain <= 3 * sum(len(vllm_engine.encode(each)) for each in typed)
    reply = await client.post(
        "/v1/chat/completions", json=chat(messages=typing(f"{typed}How many?{typed}"), swires={"preset": "fast"})
    )
    stages = [stage["stage"] for stage in reply.json()["swires"]["stages"]]
    assert stages == [stage.name for stage in Stage if stage.name in stages]


async def dry(client: httpx.AsyncClient, text: str) -> int:
    """The tokens of the prompt."""
    body = chat(messages=typing(text), swires={"dry_run": True})
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    num_tokens: int = reply.json()["usage"]["prompt_tokens"]
    return num_tokens


def typing(text: str, image: Image.Image | str = "red") -> list[dict[str, object]]:
    shown = {"type": "image_url", "image_url": {"url": image_url(image)}}
    return [{"role": "user", "content": [shown, {"type": "text", "text": text}]}]
