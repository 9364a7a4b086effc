"""What clients do to a server while its dashboard is looked at: all that it can tell, faults included."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from server import sample

Json = dict[str, Any]

SEARCHES: Sequence[Json] = (
    {"swires": {"policy": "swires", "preset": "balanced"}},
    {"swires": {"policy": "swires", "preset": "balanced", "accept_z": 3.0, "max_retraces": 1}, "stream": True},
    {"swires": {"policy": "adaptive", "preset": "balanced"}, "stream": True},
    {"swires": {"policy": "best_of_n", "preset": "fast"}},
    {"swires": {"policy": "greedy"}, "stream": True},
    {"swires": {"policy": "swires", "preset": "fast", "scorer": "likelihood"}},
    {"swires": {"policy": "swires", "preset": "balanced", "timeout_s": 0.4}},
)
WRONG: Json = {"model": "nobody-knows"}
CLIENTS = 6
AT_ONCE = 24


@asynccontextmanager
async def loaded(url: str, *, seconds: float) -> AsyncIterator[None]:
    """Clients that ask one thing after the other, once in a while many at once, for so long."""
    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=None) as client, asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(_one_after_the_other(client, number, until))
        clients.create_task(_now_and_then_too_many(client, until))
        yield


async def _one_after_the_other(client: httpx.AsyncClient, number: int, until: float) -> None:
    while time.monotonic() < until:
        await _ask(client, SEARCHES[number % len(SEARCHES)])
        number += 1


async def _now_and_then_too_many(client: httpx.AsyncClient, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.gather(*(_ask(client, {"swires": {"policy": "greedy"}}) for _ in range(AT_ONCE)))
        await _ask(client, WRONG)
        await asyncio.sleep(5)


async def _ask(client: httpx.AsyncClient, fields: Json) -> None:
    body = {"model": "demo", "messages": [sample.message()], **fields}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code in (200, 404, 503, 504), reply.text
