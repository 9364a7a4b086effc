"""The OpenAPI document says what the server does."""

import asyncio
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from server import answers, openapi
from server.app import create_app
from server.engine.fake import FakeEngine
from server.routes import router
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.client import Json, connect
from tests.server.conftest import Started
from tests.server.fuzz import command
from tests.server.running import running

PAGE = "/"
LIMIT_S = 300


@pytest.fixture
def document() -> Json:
    return openapi.document("demo")


def test_every_route_is_told(document: Json) -> None:
    routes = {
        (route.path, method.lower())
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert {(path, method) for path, told in document["paths"].items() for method in told} == {*routes, (PAGE, "get")}


def test_every_search_tells_all_failures(document: Json) -> None:
    for path in ("/v1/chat/completions", "/v1/responses"):
        told = document["paths"][path]["post"]["responses"]
        assert set(told) == {
            *("200", "400", "401", "404", "408", "413", "415", "422", "429", "431", "500", "503", "504")
        }
        assert all("Retry-After" in told[status]["headers"] for status in ("429", "503"))
        for status, answer in told.items():
            if status != "200":
                answers.ErrorAnswer.model_validate(answer["content"]["application/json"]["example"])


def test_examples_of_answers_are_of_their_schemas(document: Json) -> None:
    known = {model.__name__: model for model in openapi.MODELS}
    told = [
        (content["schema"]["$ref"].rpartition("/")[2], content["example"])
        for methods in document["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        if "$ref" in content["schema"]
    ]
    assert {name for name, _ in told} == {"ChatCompletion", "ResponseTold", "ModelList", "Version", "ErrorAnswer"}
    for name, example in told:
        known[name].model_validate(example)


async def test_examples_of_requests_are_answered(started: Started) -> None:
    async with started(served_name="mine") as app, connect(app) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        for path in ("/v1/chat/completions", "/v1/responses"):
            example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
            assert example["model"] == "mine"
            reply = await client.post(path, json=example)
            assert reply.status_code == 200, reply.text


async def test_the_server_keeps_to_it(document: Json, tmp_path: Path) -> None:
    """With any data, such as fit the document and such as do not."""
    settings = Settings.model_validate({"model": "demo", "preset": "fast"})
    async with FakeEngine() as engine, running(create_app(engine, {"fake": FakeScorer()}, settings)) as server:
        process = await asyncio.create_subprocess_exec(
            *command(server.url, examples=20, seed=0),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            printed = (await asyncio.wait_for(process.communicate(), LIMIT_S))[0].decode()
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, printed
    assert f"{len(document['paths']) - 1} selected" in printed  # all but the document itself
