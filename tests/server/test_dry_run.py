"""What a search would cost: told without one, in the shapes that clients read."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.engine.fake import FakeEngine
from server.presets import PRESETS
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling
from tests.server.client import Json, ask, chunks, connect
from tests.server.conftest import Started
from tests.server.running import running

QUESTION: Any = {"role": "user", "content": "How many?"}
LENGTHS = {Stage.SUMMARY: 40.0, Stage.CAPTION: 45.0, Stage.REASONING: 35.0, Stage.CONCLUSION: 3.0}


class Resting(FakeEngine):
    """Renders, but must not be asked to generate."""

    resting = False

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        assert not self.resting
        async for chunk in super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live):
            yield chunk


async def told(client: httpx.AsyncClient, **swires: object) -> Json:
    reply = await ask(client, swires={"dry_run": True, **swires})
    assert reply.status_code == 200, reply.text
    dry_run: Json = reply.json()["swires"]["dry_run"]
    return dry_run


async def test_nothing_is_generated_and_the_answer_is_a_completion(started: Started) -> None:
    engine = Resting()
    async with started(engine) as app, connect(app) as client:
        searched = (await ask(client)).json()
        engine.resting = True
        reply = (await ask(client, swires={"dry_run": True})).json()
        metrics = (await client.get("/metrics")).text
    (choice,) = reply["choices"]
    assert choice["message"] == {"role": "assistant", "content": "", "reasoning": None, "refusal": None}
    assert (reply["object"], choice["finish_reason"]) == ("chat.completion", "stop")
    prompt = searched["usage"]["prompt_tokens"]
    assert reply["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 0,
        "total_tokens": prompt,
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    same = ("policy", "preset", "scorer", "numbers", "budget")
    assert {key: reply["swires"][key] for key in same} == {key: searched["swires"][key] for key in same}
    assert set(reply["swires"]) == {"id", *same, "dry_run"}
    assert 'swires_search_seconds_count{policy="swires",preset="balanced"} 1.0' in metrics


@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_stream_tells_the_same(client: httpx.AsyncClient, include_usage: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": include_usage}}
    answer = (await ask(client, swires={"dry_run": True})).json()
    first, last, *usage = chunks(await ask(client, swires={"dry_run": True}, **options))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert last["swires"]["dry_run"] == answer["swires"]["dry_run"]
    assert [chunk["usage"] for chunk in usage] == ([answer["usage"]] if include_usage else [])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("policy", PRESETS["balanced"])
async def test_a_search_costs_no_less_than_the_least_and_no_more_than_the_greatest(
    client: httpx.AsyncClient, policy: str, preset: str
) -> None:
    dry_run = await told(client, policy=policy, preset=preset)
    answer = (await ask(client, swires={"policy": policy, "preset": preset})).json()
    least, expected, greatest = (dry_run[name] for name in ("least", "expected", "greatest"))
    for cost, key in (
        (answer["swires"]["generations"], "generations"),
        (answer["usage"]["completion_tokens"], "tokens"),
    ):
        assert least[key] <= cost <= greatest[key]
        assert least[key] <= expected[key] <= greatest[key]


async def test_where_lengths_were_measured_tokens_are_expected_as_they_are() -> None:
    async with FakeEngine() as engine:
        app = create_app(engine, {"fake": FakeScorer()}, Settings(model="demo"), LENGTHS)
        async with connect(app) as client:
            dry_run = await told(client, max_retraces=0)
            shorter = await told(client, max_retraces=0, stages={"CAPTION": {"max_tokens": 20}})
    assert dry_run["lengths"] == {stage.name: length for stage, length in LENGTHS.items()}
    assert dry_run["expected"] == {"generations": 12.0, "tokens": 40 + 2 * 4 * 45 + 2 * 4 * 35 + 2 * 3 * 3}
    assert dry_run["expected"]["tokens"] - shorter["expected"]["tokens"] == 2 * 4 * 25


async def test_the_budget_bounds_it(client: httpx.AsyncClient) -> None:
    dry_run = await told(client, accept_z=100, preset="thorough", max_generations=20, max_total_tokens=5000)
    assert dry_run["expected"]["generations"] <= dry_run["greatest"]["generations"] == 20
    assert dry_run["expected"]["tokens"] <= dry_run["greatest"]["tokens"] == 5000


async def test_what_a_search_would_be_refused_for(client: httpx.AsyncClient) -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    reply = await ask(client, messages=[{"role": "user", "content": content}], swires={"dry_run": True})
    assert reply.status_code == 422
    reply = await ask(client, swires={"dry_run": True, "max_generations": 3})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "swires.max_generations")


async def test_a_full_server_still_tells(started: Started) -> None:
    async with started() as app, connect(app) as client:
        await app.state.service.scheduler.drain()
        assert (await ask(client)).status_code == 503
        assert (await told(client))["least"]["generations"] == 12


async def test_the_openai_client_reads_it(serving: Started) -> None:
    extra = {"swires": {"dry_run": True}}
    async with serving() as app, running(app) as server, server.openai() as client:
        create: Any = partial(client.chat.completions.create, model="demo", messages=[QUESTION], extra_body=extra)
        answer = await create()
        parts = [part.choices[0] async for part in await create(stream=True)]
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "stop")
    assert ("".join(part.delta.content or "" for part in parts), parts[-1].finish_reason) == ("", "stop")
