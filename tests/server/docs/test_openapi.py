"""The examples of answers in the OpenAPI document are what a server on real vLLM answers."""

import json
from collections.abc import Callable

import httpx
import pytest

from server import openapi
from tests.server.client import Json
from tests.server.docs.outputs import differences
from tests.server.running import Running

REMEDY = "server/examples.json is not what the server answers: `make docs` writes it anew"


@pytest.mark.asyncio(loop_scope="session")
async def test_examples_are_real_answers(server: Running, write_docs: bool, compared: Callable[[str], str]) -> None:
    async with server.connect() as client:
        real = await answers(client)
    shown: Json = json.loads(openapi.EXAMPLES.read_text())
    if write_docs:
        shown = {name: newest(shown.get(name), value) for name, value in real.items()}
        openapi.EXAMPLES.write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    assert shown.keys() == real.keys()
    stale = [line for name in real for line in differences(*(compared(text(each[name])) for each in (shown, real)))]
    assert not stale, "\n".join([REMEDY, *stale])


async def answers(client: httpx.AsyncClient) -> Json:
    chat = ("/v1/chat/completions", openapi.chat_example("demo"))
    response = ("/v1/responses", openapi.response_example("demo"))
    told = {name: await client.get(f"/{name}") for name in ("v1/models", "version", "metrics")}
    return {
        "chat": await answer(client, *chat),
        "chat_stream": await stream(client, *chat),
        "response": await answer(client, *response),
        "response_stream": await stream(client, *response),
        "models": told["v1/models"].json(),
        "version": told["version"].json(),
        "metrics": "".join(line for line in told["metrics"].text.splitlines(True) if "swires_active_searches" in line),
    }


async def answer(client: httpx.AsyncClient, path: str, body: Json) -> Json:
    told: Json = (await client.post(path, json=body)).json()
    return told


async def stream(client: httpx.AsyncClient, path: str, body: Json) -> str:
    """Its beginning and its end, a comment between."""
    events = (await client.post(path, json={**body, "stream": True})).text.split("\n\n")
    return "\n\n".join([*events[:3], ": ...", *events[-4:]])


def newest(shown: str | Json | None, real: str | Json) -> str | Json:
    """What differs in no more than ids and times stays as it is."""
    return shown if shown is not None and not differences(text(shown), text(real)) else real


def text(told: str | Json) -> str:
    return told if isinstance(told, str) else json.dumps(told)
