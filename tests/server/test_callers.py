"""Who may ask, and how much, from a client's side."""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from server.callers import Limits, Share
from server.engine.fake import FakeEngine
from server.errors import Refused
from server.routes import router
from swires.types import Problem
from tests.server.client import Held, Json, ask, chat, chunks, connect
from tests.server.conftest import Started

KEYS = {"ann": "sk-ann", "bob": "sk-bob"}
OPEN = {"/health", "/ready"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "keys")


def written(path: Path, **limits: str) -> Path:
    lines = [
        f"{label} sha256:{hashlib.sha256(key.encode()).hexdigest()} {limits.get(label, '')}\n"
        for label, key in KEYS.items()
    ]
    path.write_text("".join(lines))
    return path


def keep_first(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0] + "\n")


def bearer(label: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[label]}"}


async def ask_as(client: httpx.AsyncClient, label: str, **fields: object) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=chat(**fields), headers=bearer(label))


def error_of(reply: httpx.Response) -> Json:
    error: Json = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def routes() -> Iterator[tuple[str, str]]:
    for route in router.routes:
        assert isinstance(route, APIRoute)
        for method in route.methods:
            yield method, route.path


@pytest.mark.parametrize(("method", "path_asked"), sorted(routes()))
async def test_every_route_but_the_probes_wants_a_key(
    started: Started, path: Path, method: str, path_asked: str
) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        bare = await client.request(method, path_asked)
        known = await client.request(method, path_asked, headers=bearer("ann"))
    assert (bare.status_code == 401) is (path_asked not in OPEN)
    assert known.status_code != 401
    if bare.status_code == 401:
        assert bare.headers["www-authenticate"] == "Bearer"
        assert error_of(bare)["code"] == "invalid_api_key"


async def test_the_page_itself_is_no_secret(started: Started, path: Path) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        assert [(await client.get(each)).status_code for each in ("/", "/web/main.js")] == [200, 200]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer nobody", "Basic sk-ann", "sk-ann", "Bearer sk-ann sk-bob", "Bearer \xff"],
)
async def test_what_is_no_known_key_is_401(started: Started, path: Path, header: str) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        headers = [(b"Authorization", header.encode("latin-1"))]
        reply = await client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert reply.status_code == 401
    assert "sk-" not in reply.text


async def test_the_scheme_is_read_in_any_case(started: Started, path: Path) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        assert (await client.get("/v1/models", headers={"Authorization": "bearer sk-ann"})).status_code == 200


async def test_a_key_is_wanted_before_the_body_is_read(started: Started, path: Path) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        reply = await client.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "text/html"})
    assert reply.status_code == 401


async def test_metrics_may_be_opened(started: Started, path: Path) -> None:
    async with started(api_keys=path, open_metrics=True) as app, connect(app) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/version")).status_code == 401


async def test_a_server_without_keys_asks_for_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models", headers={"Authorization": "Bearer any"})).status_code == 200


async def test_a_removed_key_is_refused_at_once(started: Started, path: Path) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        assert (await client.get("/v1/models", headers=bearer("bob"))).status_code == 200
        keep_first(path)
        assert (await client.get("/v1/models", headers=bearer("bob"))).status_code == 401
        assert (await client.get("/v1/models", headers=bearer("ann"))).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_one_key_over_its_searches_leaves_the_others_alone(started: Started, path: Path, stream: bool) -> None:
    held = Held()
    async with started(FakeEngine(step=held), api_keys=path, max_key_searches=1) as app, connect(app) as client:
        held.arm()
        first = asyncio.create_task(ask_as(client, "ann", stream=stream))
        await held.reached.wait()
        second = await ask_as(client, "ann", stream=True)
        other = asyncio.create_task(ask_as(client, "bob"))
        held.let_go.set()
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert error_of(second)["code"] == "rate_limit_exceeded"
        assert [reply.status_code for reply in await asyncio.gather(first, other)] == [200, 200]
        assert (await ask_as(client, "ann")).status_code == 200


async def test_a_limit_in_the_file_goes_over_the_servers(started: Started, tmp_path: Path) -> None:
    held = Held()
    path = written(tmp_path / "keys", ann="searches=2")
    async with started(FakeEngine(step=held), api_keys=path, max_key_searches=1) as app, connect(app) as client:
        held.arm()
        asking = [asyncio.create_task(ask_as(client, "ann")) for _ in range(3)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        held.let_go.set()
        statuses = [reply.status_code for reply in await asyncio.gather(*asking)]
    assert sorted(statuses) == [200, 200, 429]


async def test_tokens_that_are_used_up_are_429_until_they_have_drained(started: Started, path: Path) -> None:
    async with started(api_keys=path, max_key_tokens=300) as app, connect(app) as client:
        answer = (await ask_as(client, "ann")).json()
        told = answer["swires"]["tokens"]
        used = told["prompt"] + answer["usage"]["completion_tokens"] + told["scored"]
        refused = await ask_as(client, "ann")
        assert refused.status_code == 429
        wait_s = int(refused.headers["retry-after"])
        assert wait_s == pytest.approx((used - 300) * 60 / 300, abs=2)
        assert (await ask_as(client, "bob")).status_code == 200


@pytest.mark.parametrize(("sampled", "status"), [(5, 200), (150, 429)])
async def test_who_hangs_up_has_used_what_was_sampled(started: Started, path: Path, sampled: int, status: int) -> None:
    held = Held(free=sampled)
    async with started(FakeEngine(step=held), api_keys=path, max_key_tokens=150) as app, connect(app) as client:
        held.arm()
        asking = asyncio.create_task(ask_as(client, "ann"))
        await held.reached.wait()
        asking.cancel()
        await held.cancelled.wait()
        held.let_go.set()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await ask_as(client, "ann")).status_code == status


async def test_a_failed_search_gives_its_place_back(started: Started, path: Path) -> None:
    async with started(api_keys=path, max_key_searches=1) as app, connect(app) as client:
        for fields in ({"n": 0}, {"swires": {"dry_run": True}}, {"model": "none"}, {"stream": True}, {}):
            assert (await ask_as(client, "ann", **fields)).status_code != 429


async def test_the_log_names_the_label_and_never_the_key(
    started: Started, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(api_keys=path) as app, connect(app) as client:
        with caplog.at_level(logging.DEBUG):
            assert chunks(await ask_as(client, "ann", stream=True))
    facts = [vars(record)["facts"] for record in caplog.records if record.message == "search"]
    assert [told["key"] for told in facts] == ["ann"]
    assert "sk-ann" not in caplog.text


async def test_each_key_has_a_salt_of_its_own_in_the_engine(started: Started, path: Path) -> None:
    class Recording(FakeEngine):
        def generate(self, problem: Problem, *args: Any, **kwargs: Any) -> Any:
            salts.append(problem.cache_salt)
            return super().generate(problem, *args, **kwargs)

    salts: list[str | None] = []
    async with started(Recording(), api_keys=path) as app, connect(app) as client:
        seen = []
        for label in ("ann", "bob", "ann"):
            salts.clear()
            assert (await ask_as(client, label)).status_code == 200
            (salt,) = set(salts)
            seen.append(salt)
    assert None not in seen
    assert (seen[0] == seen[2], seen[0] == seen[1]) == (True, False)


async def test_without_keys_all_share_one_cache(client: httpx.AsyncClient, started: Started) -> None:
    class Recording(FakeEngine):
        def generate(self, problem: Problem, *args: Any, **kwargs: Any) -> Any:
            assert problem.cache_salt is None
            return super().generate(problem, *args, **kwargs)

    async with started(Recording()) as app, connect(app) as client:
        assert (await ask(client)).status_code == 200


def test_a_share_drains_with_time() -> None:
    now = 0.0
    limits, share = Limits(tokens_per_minute=600), Share(lambda: now)
    share.spend(650)
    with pytest.raises(Refused) as refused, share.place(limits):
        pass
    assert refused.value.headers == {"Retry-After": "5"}
    now = 5.1
    with share.place(limits):
        share.spend(10**6)
    now = 10**9
    with share.place(limits):
        pass


def test_a_clock_that_stands_still_or_limits_that_come_and_go_lose_nothing() -> None:
    share = Share(lambda: 7.0)
    share.spend(100)
    with pytest.raises(Refused), share.place(Limits(tokens_per_minute=100)):
        pass
    with share.place(Limits()):
        pass
