"""Asks a running server."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import httpx
from tqdm import tqdm

from training.evaluation.answers import Answer, Arm, Record
from training.tasks.example import Example

REPEAT_SEED = 1_000_003


class EvaluationError(Exception):
    """The server refused a request, or failed."""


async def ask(
    url: str,
    examples: Sequence[Example],
    arms: Sequence[Arm],
    record: Record,
    *,
    seed: int,
    repeats: int = 1,
    concurrency: int = 16,
    trace: bool = False,
) -> list[Answer]:
    """Ask every arm every problem, problem by problem; what is in `record` is not asked again.

    Raises EvaluationError.
    """
    wanted = [(at, repeat, arm) for at, repeat, arm in itertools.product(range(len(examples)), range(repeats), arms)]
    known = {(one.problem, one.repeat, one.arm) for one in record.answers}
    waiting = [(at, repeat, arm) for at, repeat, arm in wanted if (at, repeat, arm.name) not in known]
    try:
        async with httpx.AsyncClient(base_url=url, timeout=600) as client:
            model = (await client.get("/v1/models")).raise_for_status().json()["data"][0]["id"]
            await _ask_all(Asker(client, model, seed, trace), examples, waiting, record, concurrency)
    except* (EvaluationError, httpx.HTTPError) as several:
        raise EvaluationError(f"{url}: {several.exceptions[0]}") from several
    names = {(at, repeat, arm.name) for at, repeat, arm in wanted}
    return [one for one in record.answers if (one.problem, one.repeat, one.arm) in names]


async def _ask_all(
    asker: "Asker",
    examples: Sequence[Example],
    waiting: Sequence[tuple[int, int, Arm]],
    record: Record,
    concurrency: int,
) -> None:
    room = asyncio.Semaphore(concurrency)
    with tqdm(total=len(waiting), unit="answer") as bar:

        async def one(at: int, repeat: int, arm: Arm) -> None:
            async with room:
                record.add(await asker.ask(examples[at], arm, at, repeat))
            bar.update()

        async with asyncio.TaskGroup() as group:
            for each in waiting:
                group.create_task(one(*each))


class Asker:
    """One server, asked one way."""

    def __init__(self, client: httpx.AsyncClient, model: str, seed: int, trace: bool) -> None:
        self._client, self._model, self._seed, self._trace = client, model, seed, trace

    async def ask(self, example: Example, arm: Arm, at: int, repeat: int) -> Answer:
        reply = await self._client.post("/v1/chat/completions", json=self._body(example, arm, at, repeat))
        if reply.is_error:
            raise EvaluationError(f"{arm.name}: the server answered {reply.status_code}: {reply.text[:300]}")
        answer = reply.json()
        search = answer["swires"]
        return Answer(
            arm=arm.name,
            problem=at,
            repeat=repeat,
            expected=example.answer,
            content=answer["choices"][0]["message"]["content"],
            tokens=answer["usage"]["completion_tokens"],
            scored=search["tokens"]["scored"],
            generations=search["generations"],
            retraces=search["retraces"],
            seconds=search["seconds"],
            trace=search["trace"] or [],
        )

    def _body(self, example: Example, arm: Arm, at: int, repeat: int) -> dict[str, Any]:
        content = [
            {"type": "image_url", "image_url": {"url": example.data_url}},
            {"type": "text", "text": example.question},
        ]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "seed": self._seed + at + repeat * REPEAT_SEED,
            "swires": {"trace": self._trace, **arm.swires},
        }
