"""A whole server on loopback, in this process."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
from fastapi import FastAPI

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.serve import bound, serve
from server.serving_engine import CheckpointEngine
from server.settings import Settings

LIMIT_S = 10


@dataclass(frozen=True)
class Running:
    """A server under way; `task` is done when it has stopped."""

    app: FastAPI
    url: str
    task: asyncio.Task[None]

    def connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=None)

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[Running, None]:
    listening = asyncio.Event()
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        task = asyncio.create_task(serve(app, sock, listening.set))
        try:
            async with asyncio.timeout(LIMIT_S):
                await listening.wait()
            yield Running(app, f"http://127.0.0.1:{port}", task)
        finally:
            await stopped(task)


@asynccontextmanager
async def running_checkpoint(engine: CheckpointEngine, checkpoint: Path) -> AsyncGenerator[Running, None]:
    """What `make serve` serves."""
    known = checkpoints.load(str(checkpoint))
    scorers = make_scorers(engine, known, chosen_scorers(known, ()))
    settings = Settings.model_validate({"model": str(checkpoint), "served_name": "demo"})
    async with running(create_app(engine, scorers, settings, known.lengths)) as server:
        yield server


async def stopped(task: asyncio.Task[None]) -> None:
    """Tell the server to stop; after a test that failed half-way, its searches may have to be ended too."""
    for _ in range(2):
        if not task.done():
            signalled(signal.SIGTERM)
            await asyncio.wait((task,), timeout=LIMIT_S)
    assert task.done(), "the server does not stop"


async def told_to_stop(client: httpx.AsyncClient, number: signal.Signals) -> None:
    """And has heard it."""
    signalled(number)
    while (await client.get("/ready")).status_code == 200:
        pass


def signalled(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
