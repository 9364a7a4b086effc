"""Many clients at once: those for whom there is room are served, the others told so, and nobody pays for another."""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.engine.fake import FakeEngine
from tests.server.client import Held, ask, chat, connect
from tests.server.conftest import Started
from tests.server.gate.raw import until
from tests.server.left import nothing_left
from tests.server.running import running
from tests.server.test_callers import ask_as, bearer, written

CAPACITY, WIDTH, MAX_WAITING = 8, 2, 8
ROOM = CAPACITY // WIDTH + MAX_WAITING
FAST = {"preset": "fast"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_burst_of_ten_times_what_there_is_room_for(serving: Started, stream: bool) -> None:
    held = Held()
    settings = {"max_candidates": CAPACITY, "max_waiting": MAX_WAITING}
    async with serving(FakeEngine(step=held), **settings) as app, running(app) as server:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=None, limits=limits) as client:
            held.arm()
            asking = [asyncio.create_task(ask(client, stream=stream, swires=FAST)) for _ in range(10 * ROOM)]
            await until(lambda: sum(task.done() for task in asking) == 9 * ROOM)
            scheduler = app.state.service.scheduler
            assert (scheduler.num_running, scheduler.num_waiting) == (CAPACITY // WIDTH, MAX_WAITING)
            held.let_go.set()
            replies = await asyncio.gather(*asking)
        refused = [reply for reply in replies if reply.status_code != 200]
        assert [reply.status_code for reply in refused] == [503] * (9 * ROOM)
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert {reply.json()["error"]["code"] for reply in refused} == {"overloaded"}
        await nothing_left(app)


async def test_a_key_that_floods_is_refused_and_costs_the_others_little(
    serving: Started, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async def step() -> None:
        await asyncio.sleep(0.0005)

    path = written(tmp_path / "keys", ann="searches=2")
    async with serving(FakeEngine(step=step), api_keys=path) as app, running(app) as server:
        async with server.connect() as client, server.connect() as flooding:
            flood_ends = asyncio.Event()

            async def flood() -> list[int]:
                statuses = []
                while not flood_ends.is_set():
                    reply = await ask_as(flooding, "ann", swires=FAST)
                    statuses.append(reply.status_code)
                    await asyncio.sleep(0.05)
                return statuses

            alone = await times(client, 3)
            floods = [asyncio.create_task(flood()) for _ in range(10)]
            beside = await times(client, 3)
            flood_ends.set()
            statuses = [status for each in await asyncio.gather(*floods) for status in each]
        record_property("seconds alone", statistics.median(alone))
        record_property("seconds beside", statistics.median(beside))
        assert set(statuses) <= {200, 429}
        assert 429 in statuses
        assert statistics.median(beside) < 10 * statistics.median(alone) + 5
        await nothing_left(app)


async def times(client: httpx.AsyncClient, num: int) -> list[float]:
    found = []
    for _ in range(num):
        start = time.monotonic()
        assert (await ask_as(client, "bob", swires=FAST)).status_code == 200
        found.append(time.monotonic() - start)
    return found


async def test_a_key_over_its_share_is_refused_before_anything_of_its_request_is_read(
    started: Started, tmp_path: Path
) -> None:
    class Counting(FakeEngine):
        num_rendered = 0

        async def render(self, messages, images):  # type: ignore[no-untyped-def]
            self.num_rendered += 1
            return await super().render(messages, images)

    held = Held()
    engine = Counting(step=held)
    path = written(tmp_path / "keys")
    async with started(engine, api_keys=path, max_key_searches=1) as app, connect(app) as client:
        held.arm()
        engine.num_rendered = 0
        asking = [asyncio.create_task(ask_as(client, "ann", stream=index % 2 > 0)) for index in range(10)]
        await until(lambda: sum(task.done() for task in asking) == 9)
        held.let_go.set()
        statuses = [reply.status_code for reply in await asyncio.gather(*asking)]
        assert (statuses.count(200), statuses.count(429), engine.num_rendered) == (1, 9, 1)
        refused = await client.post("/v1/chat/completions", content=b"{", headers=bearer("ann"))
        assert refused.status_code == 415
        await nothing_left(app)


async def test_two_requests_of_one_name_at_once(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-Id": "the-same"}
    posting = [client.post("/v1/chat/completions", json=chat(), headers=headers) for _ in range(2)]
    one, other = await asyncio.gather(*posting)
    assert (one.status_code, other.status_code) == (200, 200)
    assert one.json()["id"] != other.json()["id"]


async def test_names_that_clients_make_up_are_no_labels(started: Started) -> None:
    async with started() as app, connect(app) as client:

        async def made_up(name: str) -> None:
            await ask(client, model=name)
            await ask(client, swires={"policy": name})
            await ask(client, swires={"scorer": name})
            await ask(client, swires={"stages": {name: {}}})
            await ask(client, **{name: 1})
            await client.get(f"/{name}")
            await client.request(name.upper(), "/metrics", headers={name: name, "User-Agent": name})

        await made_up("first")
        before = await series(client)
        for number in range(30):
            await made_up(f"made-up-{number}")
        assert await series(client) == before


async def series(client: httpx.AsyncClient) -> set[tuple[str, tuple[str, ...]]]:
    page = await client.get("/metrics")
    return {
        (sample.name, tuple(sample.labels.values()))
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


async def test_metrics_are_told_while_searches_run(started: Started) -> None:
    held = Held()
    async with started(FakeEngine(step=held), max_candidates=1) as app, connect(app) as client:
        held.arm()
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        await until(lambda: app.state.service.scheduler.num_waiting == 2)
        page = (await client.get("/metrics")).text
        assert "swires_active_searches 1.0" in page
        assert "swires_waiting_searches 2.0" in page
        head = await client.head("/metrics")
        assert (head.status_code, head.headers["allow"]) == (405, "GET")
        held.let_go.set()
        assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}
