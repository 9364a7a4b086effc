"""Searches on the fake engine and what a collector of OpenTelemetry's protocol then has of them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deploy.trace.receiver import Received, Receiver
from server.app import create_app
from server.commands import StartError, _collector
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.scorer.guarded import Guarded
from server.settings import Collector, OtlpProtocol, Settings
from server.span import trace_headers
from server.tracing import Tracing
from swires.errors import EngineError
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling
from tests.server.client import Held, RawRequest, ask, chat, chunks, connect

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
LIMIT_S = 30
SECRET = "How many unicorns?"


class TracedEngine(FakeEngine):
    """Keeps what a server elsewhere would be sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: list[tuple[Stage, str]] = []

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        self.told.append((stage, trace_headers().get("traceparent", "")))
        async for chunk in super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live):
            yield chunk


@asynccontextmanager
async def traced(
    receiver: Receiver,
    engine: FakeEngine | None = None,
    *,
    over: Callable[[Receiver], AbstractContextManager[str]] = Receiver.over_grpc,
    protocol: OtlpProtocol = "grpc",
    **settings: object,
) -> AsyncIterator[FastAPI]:
    """When this is left, `receiver` has all there is."""
    scorers = {"fake": Guarded("fake", FakeScorer(), 10)}
    with over(receiver) as endpoint:
        async with (
            asyncio.timeout(LIMIT_S),
            engine or FakeEngine() as running,
            Tracing.to(Collector(endpoint=endpoint, protocol=protocol)) as tracing,
        ):
            app = create_app(running, scorers, Settings.model_validate({"model": "demo", **settings}), tracing=tracing)
            async with app.router.lifespan_context(app):
                yield app


def named(spans: Sequence[Received], name: str) -> list[Received]:
    return [span for span in spans if span.name == name]


def one(spans: Sequence[Received], name: str) -> Received:
    (span,) = named(spans, name)
    return span


def children(spans: Sequence[Received], parent: Received) -> list[Received]:
    return sorted((span for span in spans if span.parent == parent.id), key=lambda span: span.start)


def stages(spans: Sequence[Received]) -> list[Received]:
    return sorted((span for span in spans if span.name in Stage.__members__), key=lambda span: span.start)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("protocol", "over"), [("grpc", Receiver.over_grpc), ("http/protobuf", Receiver.over_http)], ids=["grpc", "http"]
)
async def test_a_search_is_one_trace(
    protocol: OtlpProtocol, over: Callable[[Receiver], AbstractContextManager[str]], stream: bool
) -> None:
    receiver, engine = Receiver(), TracedEngine()
    async with traced(receiver, engine, over=over, protocol=protocol) as app, connect(app) as client:
        told = {"preset": "balanced", "trace": True}
        reply = await ask(client, swires=told, stream=stream)
    facts = chunks(reply)[-1]["swires"] if stream else reply.json()["swires"]
    spans = receiver.spans
    assert {span.service for span in spans} == {"swires"}
    assert len({span.trace for span in spans}) == 1
    assert not any(span.failed for span in spans)

    request, search = one(spans, "POST /v1/chat/completions"), one(spans, "chat demo")
    assert request.parent == ""
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["swires.request_id"] == reply.headers["X-Request-Id"]
    assert [span.name for span in children(spans, request)] == ["render", "chat demo"]
    assert [span.name for span in children(spans, search)][:2] == ["turn", "SUMMARY"]
    assert {span.name for span in stages(spans)} == set(Stage.__members__)

    candidates, by_id = named(spans, "candidate"), {each["id"]: each for each in facts["trace"]}
    assert len(candidates) == facts["generations"] == search.attributes["swires.generations"]
    assert search.attributes["gen_ai.usage.output_tokens"] == sum(each["tokens"] for each in by_id.values())
    for candidate in candidates:
        node = by_id[candidate.attributes["swires.candidate"]]
        (stage,) = (span for span in stages(spans) if span.id == candidate.parent)
        assert stage.name == node["stage"]
        assert candidate.attributes["swires.fate"] == node["fate"]
        assert candidate.attributes["gen_ai.usage.output_tokens"] == node["tokens"]
    assert {span.parent for span in named(spans, "score")} <= {span.id for span in stages(spans)}
    assert named(spans, "score")

    assert {(stage.name, headers.split("-")[2]) for stage, headers in engine.told[1:]} == {
        (span.name, span.id) for span in stages(spans)
    }


async def test_times_are_within_one_another() -> None:
    receiver = Receiver()
    async with traced(receiver) as app, connect(app) as client:
        await ask(client)
    by_id = {span.id: span for span in receiver.spans}
    for span in receiver.spans:
        assert span.start <= span.end
        if span.parent:
            assert by_id[span.parent].start <= span.start
            assert span.end <= by_id[span.parent].end
    for before, after in zip(stages(receiver.spans), stages(receiver.spans)[1:], strict=False):
        assert before.end <= after.start


async def test_the_clients_trace_is_joined() -> None:
    receiver = Receiver()
    async with traced(receiver) as app, connect(app) as client:
        for traceparent in (TRACEPARENT, "00-zz-1", TRACEPARENT[:-1] + "0"):
            await client.post("/v1/chat/completions", json=chat(), headers={"traceparent": traceparent})
    joined, other = named(receiver.spans, "POST /v1/chat/completions")
    assert (joined.trace, joined.parent) == (TRACE, PARENT)
    assert other.trace != TRACE
    assert len({span.trace for span in receiver.spans}) == 2  # the third was not to be recorded


async def test_searches_at_once_keep_apart() -> None:
    """Each request to the engine names a stage of its own search, whatever runs beside it."""
    receiver, engine = Receiver(), TracedEngine()
    async with traced(receiver, engine) as app, connect(app) as client:
        await asyncio.gather(*(ask(client, seed=seed, stream=seed % 2 == 0) for seed in range(8)))
    by_id = {span.id: span for span in receiver.spans}
    told = [(stage, header.split("-")) for stage, header in engine.told if header]
    assert len({trace for _, (_, trace, _, _) in told}) == 8
    for stage, (_, trace, parent, _) in told:
        assert (by_id[parent].name, by_id[parent].trace) == (stage.name, trace)


async def test_retraces_and_choices_are_seen() -> None:
    receiver = Receiver()
    async with traced(receiver) as app, connect(app) as client:
        reply = await ask(client, swires={"policy": "swires", "accept_z": 100, "max_retraces": 2})
    search = one(receiver.spans, "chat demo")
    events = [(name, told.get("swires.to", told.get("swires.stage"))) for name, _, told in search.events]
    assert events.count(("retraced", "CAPTION")) == reply.json()["swires"]["retraces"] == 2
    assert [stage for name, stage in events if name == "stage chosen"] == list(Stage.__members__)
    assert [span.name for span in stages(receiver.spans)].count("CAPTION") == 3
    assert search.attributes["swires.retraces"] == 2
    assert search.attributes["swires.accepted"] is False


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_one_in_the_trace(stream: bool) -> None:
    async def fail() -> None:
        raise EngineError(SECRET)

    receiver, engine = Receiver(), FakeEngine()
    async with traced(receiver, engine) as app, connect(app) as client:
        engine._step = fail
        await ask(client, stream=stream)
    told = {span.name: (span.failed, span.attributes.get("error.type")) for span in receiver.spans}
    assert told["POST /v1/chat/completions"] == (True, "engine_error")
    assert told["chat demo"] == told["SUMMARY"] == (True, "EngineError")
    assert one(receiver.spans, "chat demo").attributes["swires.outcome"] == "failed"
    assert SECRET not in repr(receiver.spans)


async def test_a_scorer_that_fails_is_seen() -> None:
    receiver = Receiver()
    scorer = FakeScorer()
    async with traced(receiver) as app, connect(app) as client:
        app.state.service.scorers["fake"] = Guarded("slow", Slow(scorer), 0.001)
        await ask(client)
    assert {span.failed for span in named(receiver.spans, "score")} == {True}
    assert not one(receiver.spans, "chat demo").failed
    assert one(receiver.spans, "chat demo").attributes["swires.scorer_degraded"] is True


class Slow:
    needs_likelihood = compares = ranks = False

    def __init__(self, scorer: FakeScorer) -> None:
        self._scorer = scorer

    async def score(self, *arguments: Any) -> Any:
        await asyncio.sleep(1)
        return await self._scorer.score(*arguments)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_ends_every_span(stream: bool) -> None:
    held, receiver = Held(free=60), Receiver()
    async with traced(receiver, FakeEngine(step=held)) as app:
        held.arm()
        request = RawRequest(chat(stream=stream))
        asking = asyncio.create_task(request.post(app))
        await held.reached.wait()
        request.hang_up.set()
        await asking
    search = one(receiver.spans, "chat demo")
    assert search.attributes["swires.outcome"] == "cancelled"
    assert search.attributes["swires.cancelled"] is True
    assert not search.failed
    assert stages(receiver.spans)[-1].attributes["swires.cancelled"] is True
    assert {span.parent for span in receiver.spans} <= {"", *(span.id for span in receiver.spans)}


async def test_a_refusal_is_a_span_alone() -> None:
    receiver = Receiver()
    async with traced(receiver) as app, connect(app) as client:
        await ask(client, n=0)
        await client.get("/v1/models")
    (span,) = receiver.spans
    assert span.attributes["http.response.status_code"] == 400
    assert not span.failed


@pytest.mark.parametrize("content", [False, True])
async def test_texts_are_told_where_asked_for_alone(content: bool) -> None:
    receiver = Receiver()
    parts = [*chat()["messages"][0]["content"], {"type": "text", "text": SECRET}]
    async with traced(receiver, trace_content=content) as app, connect(app) as client:
        reply = await ask(client, messages=[{"role": "user", "content": parts}])
    told, answer = repr(receiver.spans), reply.json()["choices"][0]["message"]
    assert (SECRET in told) is content
    assert (answer["reasoning"].splitlines()[0] in told) is content
    assert "base64" not in told
    assert parts[0]["image_url"]["url"][-40:] not in told


async def test_without_a_collector_there_are_no_headers(
    started: Callable[..., AbstractContextManager[FastAPI]],
) -> None:
    engine = TracedEngine()
    async with started(engine) as app, connect(app) as client:  # type: ignore[attr-defined]
        await client.post("/v1/chat/completions", json=chat(), headers={"traceparent": TRACEPARENT})
    assert {header for _, header in engine.told} == {""}


def test_where_traces_go(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_TRACES_{name}", raising=False)
    silent, told = Settings(model="demo"), Settings(model="demo", otlp_traces_endpoint="http://a:1")
    assert _collector(silent) == Collector()
    assert _collector(told) == Collector(endpoint="http://a:1", protocol="grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    assert _collector(silent) == Collector(endpoint="http://b:2/v1/traces", protocol="http/protobuf")
    assert _collector(told).endpoint == "http://a:1"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
    with pytest.raises(StartError, match=r"^OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: Input should be 'grpc' or"):
        _collector(silent)


def test_opentelemetry_is_imported_where_it_is_asked_for() -> None:
    code = "import sys, server.app, server.commands; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    tracing = Tracing.to(Collector(endpoint="http://127.0.0.1:9", protocol="grpc"))
    scorers = {"fake": FakeScorer()}
    async with asyncio.timeout(LIMIT_S), tracing, FakeEngine() as engine:
        app = create_app(engine, scorers, Settings.model_validate({"model": "demo"}), tracing=tracing)
        async with app.router.lifespan_context(app), connect(app) as client:
            assert isinstance(await ask(client), httpx.Response)
