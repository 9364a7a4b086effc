"""The routes beside the chat."""

import tomllib
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.engine.fake import FakeEngine
from server.offers import offers
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.policies import POLICIES
from tests.server.client import RawRequest, ask, chat, connect
from tests.server.conftest import Started

Samples = dict[tuple[str, tuple[str, ...]], float]


async def samples(client: httpx.AsyncClient) -> Samples:
    """Our metrics by name and the values of their labels, in the order of the labels' names."""
    page = (await client.get("/metrics")).text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("swires_")
    }


async def test_models(client: httpx.AsyncClient) -> None:
    reply = (await client.get("/v1/models")).json()
    assert reply["object"] == "list"
    names = [card["id"] for card in reply["data"]]
    assert names == ["demo", "demo:greedy", "demo:fast", "demo:balanced", "demo:thorough"]
    assert set(reply["data"][0]) == {"id", "object", "created", "owned_by", "root", "max_model_len"}


async def test_what_a_client_may_choose_from(client: httpx.AsyncClient) -> None:
    told = (await client.get("/v1/models")).json()["swires"]
    assert (told["policy"], told["preset"]) == ("swires", "balanced")
    assert (set(told["policies"]), told["presets"]) == (set(POLICIES), ["fast", "balanced", "thorough"])
    assert list(told["scorers"]) == ["fake", "other"]
    assert all(set(policies) == set(POLICIES) for policies in told["scorers"].values())


def test_a_scorer_that_only_ranks_does_not_serve_a_policy_that_thresholds() -> None:
    scorer = FakeScorer()
    scorer.ranks = True
    told = offers(Settings.model_validate({"model": "demo"}), {"ranking": scorer})["scorers"]["ranking"]
    assert set(told) == {name for name, policy in POLICIES.items() if not policy.thresholds}


async def test_version(client: httpx.AsyncClient) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert (await client.get("/version")).json() == {"version": project["version"], "engine": "fake"}


async def test_health_and_readiness(started: Started) -> None:
    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        assert [(await client.get(path)).status_code for path in ("/health", "/ready")] == [200, 200]
        engine.alive = False
        for path in ("/health", "/ready"):
            reply = await client.get(path)
            assert reply.status_code == 503
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405)])
async def test_no_such_route(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    reply = await client.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_metrics_count_what_searches_did(client: httpx.AsyncClient) -> None:
    told = (await ask(client, swires={"accept_z": 100, "max_retraces": 1})).json()["swires"]
    await ask(client, model="demo:greedy", stream=True)
    after = await samples(client)
    assert after["swires_searches_total", ("finished", "swires", "balanced")] == 1
    assert after["swires_searches_total", ("finished", "greedy", "balanced")] == 1
    assert after["swires_search_seconds_count", ("swires", "balanced")] == 1
    sampled = sum(
        number for name, number in after.items() if name[0] == "swires_generations_total" and "swires" in name[1]
    )
    assert sampled == told["generations"]
    assert after["swires_retraces_total", ("swires", "CAPTION")] == 1
    tokens = {
        fate: after["swires_generated_tokens_total", (fate, "swires")] for fate in ("chosen", "discarded", "retraced")
    }
    assert tokens["chosen"] == told["tokens"]["winner"]
    assert tokens["discarded"] + tokens["retraced"] == told["tokens"]["discarded"]
    assert after["swires_scorer_seconds_count", ("fake",)] > 0
    assert after["swires_active_searches", ()] == after["swires_waiting_searches", ()] == 0


async def test_metrics_count_refusals_by_status_and_name_no_unknown_model(client: httpx.AsyncClient) -> None:
    await ask(client, model="nobody-knows")
    await ask(client, n=0)
    assert (await samples(client))["swires_refusals_total", ("404",)] == 1
    assert (await samples(client))["swires_refusals_total", ("400",)] == 1
    assert "nobody-knows" not in (await client.get("/metrics")).text


async def test_metrics_take_no_probe_for_a_refusal(started: Started) -> None:
    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        await app.state.service.scheduler.drain()
        assert (await client.get("/ready")).status_code == 503
        engine.alive = False
        assert (await client.get("/health")).status_code == 503
        assert not [name for name, _ in await samples(client) if name == "swires_refusals_total"]


async def test_metrics_take_a_refusal_for_no_fast_answer(started: Started) -> None:
    async with started() as app, connect(app) as client:
        await app.state.service.scheduler.drain()
        assert (await ask(client)).status_code == 503
        after = await samples(client)
    assert after["swires_searches_total", ("refused", "swires", "balanced")] == 1
    assert ("swires_search_seconds_count", ("swires", "balanced")) not in after


async def test_metrics_count_a_search_that_nobody_waited_for(started: Started) -> None:
    request = RawRequest(chat())

    async def hang_up() -> None:
        request.hang_up.set()

    engine = FakeEngine()
    async with started(engine) as app, connect(app) as client:
        engine._step = hang_up
        await request.post(app)
        assert (await samples(client))["swires_searches_total", ("cancelled", "swires", "balanced")] == 1


async def test_the_engines_own_metrics_are_on_the_page(client: httpx.AsyncClient) -> None:
    """Whatever the process has registered; here the collectors that come with the client library."""
    assert "python_info" in (await client.get("/metrics")).text
