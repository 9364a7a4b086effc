"""The id of each request, and its line in the log."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from server.account import PROBES
from server.engine.fake import FakeEngine
from server.logs import CHATTY, FORMATTERS
from server.settings import LogFormat
from swires.errors import EngineError
from tests.server.client import Held, Json, RawRequest, ask, chat, connect, image_url
from tests.server.conftest import Started
from tests.server.gate.cases import CASES
from tests.server.running import running
from tests.server.test_callers import ask_as, written

GIVEN = "client-7/a.b:c=d+e@f_g"
UNSAFE = (
    b"a\r\nb: c",
    b"a\nb",
    b"\x1b[31mred",
    b"\x9b1m",
    b"a b",
    b"",
    b"x" * 129,
    b"x" * 10_000,
    b"\xe9",
    b'a"b',
    b"a\0",
)


@contextmanager
def logged(form: LogFormat = "json", level: int = logging.INFO) -> Iterator[StringIO]:
    """What a server's log would have, down to `level`."""
    out = StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(FORMATTERS[form]())
    before = {name: logging.getLogger(name).level for name in ("root", CHATTY)}
    logging.root.addHandler(handler)
    for name in before:
        logging.getLogger(name).setLevel(level if name == "root" else logging.WARNING)
    try:
        yield out
    finally:
        logging.root.removeHandler(handler)
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)


def lines(out: StringIO) -> list[Json]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def searches(out: StringIO) -> list[Json]:
    return [line for line in lines(out) if line["message"] == "search"]


async def answered(app: FastAPI, *headers: tuple[bytes, bytes], path: str = "/health") -> dict[bytes, bytes]:
    """The headers of an answer to headers that no client of HTTP would send."""
    told: dict[bytes, bytes] = {}

    async def send(message: Message) -> None:
        told.update(message.get("headers", ()))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {
        "type": "http", "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "headers": [(b"host", b"test"), *headers],
    }  # fmt: skip
    await app(scope, receive, send)
    return told


async def test_a_clients_id_comes_back(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health", headers={"X-Request-Id": GIVEN})).headers["x-request-id"] == GIVEN


@pytest.mark.parametrize("given", UNSAFE)
async def test_an_id_that_is_not_safe_is_replaced(started: Started, given: bytes) -> None:
    with logged(level=logging.DEBUG) as out:
        async with started() as app:
            told = await answered(app, (b"x-request-id", given))
    assert len(told[b"x-request-id"]) == 32
    (line,) = (line for line in lines(out) if line.get("path") == "/health")
    assert line["request_id"] == told[b"x-request-id"].decode()


async def fail() -> None:
    raise EngineError("10.0.0.7 is gone")


async def bug() -> None:
    raise RuntimeError("a bug")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_every_answer_has_one(started: Started, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with started(engine, api_keys=written(tmp_path / "keys")) as app, connect(app) as client:
        replies = [
            await client.get("/health"),
            await client.get("/"),
            await client.get("/web/nothing"),
            await client.get("/v1/models"),
            await client.put("/v1/models"),
            await client.get("/health", headers={"Host": "a/b"}),
            await ask_as(client, "ann", stream=True),
            await ask_as(client, "ann", n=0),
        ]
        for step in (fail, bug):
            engine._step = step
            replies.append(await ask_as(client, "ann"))
        engine.alive = False
        replies.append(await client.get("/health"))
    assert [reply.status_code for reply in replies] == [200, 200, 404, 401, 405, 400, 200, 400, 500, 500, 503]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    for reply, told in zip(replies, ids, strict=True):
        if reply.status_code >= 400:
            assert reply.json()["request_id"] == told


async def test_openai_python_knows_it(serving: Started) -> None:
    async with serving() as app, running(app) as server, server.openai() as client:
        answer = await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "a"}], extra_headers={"X-Request-Id": GIVEN}
        )
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "a"}], n=0, extra_headers={"X-Request-Id": GIVEN}
            )
    assert answer._request_id == refused.value.request_id == GIVEN


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_is_one_line(started: Started, tmp_path: Path, stream: bool) -> None:
    with logged() as out:
        async with started(api_keys=written(tmp_path / "keys")) as app, connect(app) as client:
            swires = {"policy": "swires", "preset": "fast", "accept_z": 100, "max_retraces": 1}
            reply = await ask_as(client, "ann", stream=stream, swires=swires)
    (line,) = searches(out)
    assert line["request_id"] == reply.headers["x-request-id"]
    told = {name: line[name] for name in ("method", "path", "status", "key", "policy", "preset", "scorer", "outcome")}
    assert told == {
        "method": "POST", "path": "/v1/chat/completions", "status": 200, "key": "ann", "policy": "swires",
        "preset": "fast", "scorer": "fake", "outcome": "finished",
    }  # fmt: skip
    assert (line["retraces"], line["accepted"], line["stopped_by"]) == (1, False, None)
    assert line["generations"] > 6
    assert line["tokens"] > line["generations"]
    assert 0 < line["search_seconds"] <= line["seconds"]
    if not stream:
        assert line["tokens"] == reply.json()["usage"]["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_that_fails_has_its_line_too(started: Started, stream: bool) -> None:
    engine = FakeEngine()
    with logged() as out:
        async with started(engine) as app, connect(app) as client:
            engine._step = fail
            reply = await ask(client, stream=stream)
    (line,) = searches(out)
    assert (line["outcome"], line["code"], line["status"]) == ("failed", "engine_error", reply.status_code)
    failures = [line for line in lines(out) if line["level"] == "error"]
    assert failures
    assert {each["request_id"] for each in failures} == {line["request_id"]}
    assert "10.0.0.7 is gone" in failures[0]["traceback"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_whose_client_left(started: Started, stream: bool) -> None:
    held = Held(free=60)
    with logged() as out:
        async with started(FakeEngine(step=held)) as app:
            held.arm()
            request = RawRequest(chat(stream=stream))
            asking = asyncio.create_task(request.post(app))
            await held.reached.wait()
            request.hang_up.set()
            await asking
    (line,) = searches(out)
    assert line["outcome"] == "cancelled"
    assert line.get("status") in (200, None) if stream else line["status"] == 499


async def test_what_is_refused_says_why(started: Started, tmp_path: Path) -> None:
    with logged() as out:
        async with started(api_keys=written(tmp_path / "keys")) as app, connect(app) as client:
            await ask(client)
            await ask_as(client, "bob", n=0)
    told = [(line["status"], line["code"], line.get("key")) for line in lines(out) if "status" in line]
    assert told == [(401, "invalid_api_key", None), (400, "greater_than_equal", "bob")]


async def test_probes_are_told_under_debug_alone(client: httpx.AsyncClient) -> None:
    for level in (logging.INFO, logging.DEBUG):
        with logged(level=level) as out:
            for path in PROBES:
                await client.get(path)
        assert {line["path"] for line in lines(out) if "path" in line} == (PROBES if level == logging.DEBUG else set())


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_path_cannot_forge_a_line(client: httpx.AsyncClient, form: LogFormat) -> None:
    with logged(form) as out:
        await client.get("/a%0d%0aERROR%20forged%1b%5b31m%c2%9b%e2%80%a8" + "x" * 1000)
    (line,) = out.getvalue().splitlines()
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize("form", ["text", "json"])
async def test_what_is_asked_is_never_told(started: Started, form: LogFormat) -> None:
    """At no level, in whatever way a request is wrong."""
    engine = FakeEngine()
    with logged(form, logging.DEBUG) as out:
        async with started(engine, max_body_mib=1) as app, connect(app) as client:
            for case in CASES:
                await client.post(case.path, content=case.body, headers=case.headers)
            for step in (fail, bug):
                engine._step = step
                for stream in (False, True):
                    await ask(client, stream=stream)
    told = out.getvalue()
    assert told.count("search") >= len([case for case in CASES if case.status == 200])
    for secret in ("How many?", "base64", image_url()[-60:-20], "169.254", *map(middle, CASES)):
        assert secret not in told, secret


def middle(case: Any) -> str:
    """Of its body, a piece that nothing else would have."""
    half = len(case.body) // 2
    piece: bytes = case.body[half : half + 24]
    return piece.decode("latin-1") if len(case.body) > 60 and piece.strip() else "How many?"
