"""Stages sampled from a running server, each rolled out to conclusions.

A request asks the policy `swires` for one round in which nothing is dropped: a summary, captions of it, reasonings of
each caption, a conclusion of each reasoning. Its trace is the tree.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import httpx
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from training.data.annotation.errors import BadImage
from training.data.annotation.pace import Wait
from training.data.annotation.teacher import retry_after_s
from training.verifier import jsonl
from training.verifier.errors import BadFile, ServerFailed
from training.verifier.problem import Problem
from training.verifier.tree import Sampled, Tree

BUSY = (429, 503)
PATIENCE_S = 600
"""For one answer."""

_CANDIDATES = TypeAdapter(tuple[Sampled, ...])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sampled of each problem: `trees` summaries, `captions` of each, `reasonings` of each caption."""

    trees: int = 2
    captions: int = 4
    reasonings: int = 2
    temperature: float = 0.7
    seed: int = 0

    @property
    def swires(self) -> dict[str, Any]:
        """The object of that name in a request."""
        return {
            "policy": "swires",
            "captions": self.captions,
            "keep_captions": self.captions,
            "reasonings": self.reasonings,
            "keep_reasonings": self.captions * self.reasonings,
            "accept_rank": 1,
            "max_retraces": 0,
            "trace": True,
        }


async def sample(
    url: str,
    problems: Sequence[Problem],
    plan: Plan,
    *,
    concurrency: int,
    tries: int,
    record: Path,
    wait: Wait = asyncio.sleep,
) -> None:
    """Append to `record` the trees that it lacks. Raises ServerFailed, BadFile."""
    known = {(tree.problem.key, tree.number) for tree in jsonl.mended(record, Tree)}
    wanted = [(problem, number) for problem in dict.fromkeys(problems) for number in range(plan.trees)]
    waiting = [(problem, number) for problem, number in wanted if (problem.key, number) not in known]
    try:
        with record.open("a") as file, tqdm(total=len(wanted), initial=len(wanted) - len(waiting), unit="tree") as bar:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
                await _Sampler(client, plan, tries, wait, file, bar).sample_all(waiting, concurrency)
    except ExceptionGroup as group:
        first = group.exceptions[0]
        raise first from first.__cause__


@dataclass
class _Sampler:
    client: httpx.AsyncClient
    plan: Plan
    tries: int
    wait: Wait
    file: TextIO
    bar: "tqdm[Any]"

    async def sample_all(self, waiting: Sequence[tuple[Problem, int]], concurrency: int) -> None:
        model = (await self._send("GET", "/v1/models"))["data"][0]["id"]
        room = asyncio.Semaphore(concurrency)
        async with asyncio.TaskGroup() as tasks:
            for problem, number in waiting:
                await room.acquire()
                task = tasks.create_task(self._sample(model, problem, number))
                task.add_done_callback(lambda _: room.release())

    async def _sample(self, model: str, problem: Problem, number: int) -> None:
        answer = await self._send("POST", "/v1/chat/completions", self._body(model, problem, number))
        try:
            candidates = _CANDIDATES.validate_python(answer["swires"]["trace"])
        except (KeyError, ValidationError) as error:
            raise ServerFailed(f"{self.client.base_url}: answers without the trace of a search") from error
        self.file.write(Tree(problem=problem, number=number, candidates=candidates).model_dump_json() + "\n")
        self.file.flush()
        self.bar.update()

    def _body(self, model: str, problem: Problem, number: int) -> dict[str, Any]:
        try:
            image = {"type": "image_url", "image_url": {"url": problem.url}}
        except BadImage as error:
            raise BadFile(str(error)) from error
        return {
            "model": model,
            "messages": [{"role": "user", "content": [image, {"type": "text", "text": problem.question}]}],
            "temperature": self.plan.temperature,
            "seed": _seed(self.plan.seed, problem, number),
            "swires": self.plan.swires,
        }

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asked again while the server is busy, or was not reached. Raises ServerFailed."""
        told, wait_s = "", 1.0
        for left in reversed(range(self.tries)):
            try:
                reply = await self.client.request(method, path, json=body)
            except httpx.RequestError as error:
                told = str(error) or type(error).__name__
            else:
                if reply.is_success:
                    found: dict[str, Any] = reply.json()
                    return found
                told = f"the server answered {reply.status_code}: {' '.join(reply.text.split())[:300]}"
                if reply.status_code not in BUSY:
                    break
                wait_s = retry_after_s(reply.headers) or wait_s
            if left:
                await self.wait(wait_s)
        raise ServerFailed(f"{self.client.base_url}: {told}")


def _seed(seed: int, problem: Problem, number: int) -> int:
    """The same for the same tree, in whatever order trees are sampled."""
    return int(hashlib.sha256(f"{seed} {problem.key} {number}".encode()).hexdigest()[:12], 16)
