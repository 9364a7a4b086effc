"""What the engine over HTTP gives beyond the contract: requests that are lost are sent again, all under one key."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.engine import http_engine
from server.engine.http_engine import SEARCH_KEY, HttpEngine, Picture, Rendered
from server.in_process import InProcess
from server.span import current
from server.tracing import Tracing
from swires.errors import EngineError
from swires.stages import Stage
from swires.types import Sampling

LENGTH = 40


class Servers(httpx.AsyncBaseTransport):
    """Write the ids 100, 101 ... where `prompt` ends; `lose` may say after how many ids a request breaks off."""

    def __init__(self, lose: Callable[[int], int | None]) -> None:
        self.prompt = (2, 9)
        self.asked: list[httpx.Request] = []
        self._lose = lose

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "max_model_len": 1024}]})
        if request.url.path == "/version":
            return httpx.Response(200, json={"version": "0"})
        self.asked.append(request)
        if request.url.path.endswith("/render"):
            sees = "image_url" in request.content.decode()
            return httpx.Response(400 if sees else 200, json={"token_ids": self.prompt})
        body = json.loads(request.content)
        begun = len(body["token_ids"]) - len(self.prompt)
        end = begun + body["sampling_params"]["max_tokens"]
        lost = self._lose(len(self.of_candidates()))
        return httpx.Response(200, content=_stream(range(begun, end), lost))

    def of_candidates(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.asked if request.url.path == "/inference/v1/generate"]


async def _stream(places: range, lost: int | None) -> AsyncIterator[bytes]:
    for number, place in enumerate(places):
        if number == lost:
            raise httpx.ReadError("the replica is gone")
        last = place == places[-1]
        choice = {"token_ids": [100 + place], "finish_reason": "length" if last else None, "stop_reason": None}
        yield f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


async def drawn(checkpoint: Path, servers: Servers, cache_salt: str | None = None) -> tuple[int, ...]:
    async with HttpEngine(str(checkpoint), "http://servers", transport=servers) as engine:
        servers.asked.clear()
        problem = await engine.render([{"role": "user", "content": "How many?"}], [])
        problem = replace(problem, cache_salt=cache_salt)
        sampling = Sampling(max_tokens=LENGTH, seed=3)
        async with aclosing(engine.generate(problem, (), stage=Stage.SUMMARY, n=1, sampling=sampling)) as chunks:
            ids = tuple([token async for chunk in chunks for token in chunk.token_ids])
        assert engine.num_running == 0
        return ids


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_engine, "BACK_OFF_S", (0.0, 0.0))


@pytest.mark.parametrize("lost_after", [0, 1, 20])
async def test_a_lost_candidate_goes_on_from_what_was_told(checkpoint: Path, lost_after: int) -> None:
    servers = Servers(lambda request: lost_after if request == 1 else None)
    assert await drawn(checkpoint, servers) == tuple(range(100, 100 + LENGTH))
    first, second = servers.of_candidates()
    begun = len(second["token_ids"]) - len(first["token_ids"])
    assert begun <= lost_after
    assert second["sampling_params"] == {**first["sampling_params"], "max_tokens": LENGTH - begun}


async def test_where_all_are_gone_the_engine_fails(checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="failed on a request"):
        await drawn(checkpoint, Servers(lambda request: 5))


async def test_all_requests_of_a_search_carry_its_key(checkpoint: Path) -> None:
    servers = Servers(lambda request: 3 if request == 1 else None)
    await drawn(checkpoint, servers)
    keys = {request.headers[SEARCH_KEY] for request in servers.asked}
    await drawn(checkpoint, servers)
    assert (len(servers.asked), len(keys)) == (3, 1)
    assert keys.isdisjoint(request.headers[SEARCH_KEY] for request in servers.asked)


@pytest.mark.parametrize("salt", [None, "ann"])
async def test_a_callers_salt_goes_to_the_servers(checkpoint: Path, salt: str | None) -> None:
    servers = Servers(lambda request: 3 if request == 1 else None)
    await drawn(checkpoint, servers, salt)
    assert [body.get("cache_salt") for body in servers.of_candidates()] == [salt, salt]


async def test_a_traced_search_takes_the_servers_into_its_trace(checkpoint: Path) -> None:
    servers = Servers(lambda request: None)
    async with Tracing(SimpleSpanProcessor(InMemorySpanExporter())) as tracing:
        with current(tracing.request("POST", {}, {})) as span:
            await drawn(checkpoint, servers)
    assert {request.headers["traceparent"] for request in servers.asked} == {span.headers["traceparent"]}


def test_a_callers_pictures_have_names_of_their_own() -> None:
    prompt = Rendered("key", (1,), 1, (Picture("data:,", "name"),))
    names = [prompt.apart(salt).pictures[0].name for salt in (None, "ann", "bob")]
    assert names == ["name", "ann-name", "bob-name"]


async def test_a_server_that_is_not_there_is_one_clear_error(checkpoint: Path) -> None:
    async def nowhere(scope: Any, receive: Any, send: Any) -> None:
        return

    with pytest.raises(EngineError, match="did not start"):
        async with HttpEngine(str(checkpoint), "http://nowhere", transport=InProcess(nowhere)):
            pass


def metric(name: str, label: str = "") -> float:
    told = prometheus_client.generate_latest().decode()
    values = re.findall(rf"^vllm:{name}\{{[^\n]*{label}[^\n]*\}} (\S+)$", told, re.MULTILINE)
    assert values
    return sum(map(float, values))


def ended_by_themselves() -> float:
    return metric("request_success_total", 'finished_reason="(?:stop|length)"')


@pytest.mark.asyncio(loop_scope="session")
async def test_a_closed_stream_ends_what_the_server_samples(http_engine: HttpEngine) -> None:
    problem = await http_engine.render([{"role": "user", "content": "How many?"}], [])
    before = ended_by_themselves()
    stream = http_engine.generate(problem, (), stage=Stage.CONCLUSION, n=8, sampling=Sampling(), live=True)
    async with aclosing(stream) as chunks:
        async for _ in chunks:
            if metric("num_requests_running"):
                break
    while metric("num_requests_running"):
        assert ended_by_themselves() - before < 8
        await asyncio.sleep(0)
    assert ended_by_themselves() - before < 8
    assert http_engine.num_running == 0
