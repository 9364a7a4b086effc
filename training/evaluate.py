"""Accuracy and cost of policies on a task, asked of a running server over HTTP."""

import asyncio
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from training.tasks.easy_vqa import easy_vqa_examples
from training.tasks.example import Example
from training.tasks.scenes import scenes

BOOTSTRAPS = 2000


class EvaluationError(Exception):
    """The server refused a request, or failed."""


@dataclass(frozen=True)
class Arm:
    """One way to answer: what goes into the request's `swires` object. Written as POLICY or POLICY:key=value,..."""

    name: str
    swires: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Arm":
        policy, _, rest = text.partition(":")
        pairs = (pair.partition("=") for pair in rest.split(",") if pair)
        return cls(text, {"policy": policy, **{key: _value(value) for key, _, value in pairs}})


@dataclass(frozen=True)
class Answered:
    """One problem answered by one arm. Tokens are all generated ones, losing candidates included."""

    arm: str
    problem: int
    expected: str
    content: str
    tokens: int
    generations: int
    retraces: int
    seconds: float

    @property
    def right(self) -> bool:
        return is_right(self.content, self.expected)


def is_right(content: str, expected: str) -> bool:
    """Letter case and the white space around do not matter."""
    return content.strip().lower() == expected.strip().lower()


def problems(task: str, count: int, seed: int) -> list[Example]:
    """`count` scenes of the seed, or as many questions of easy-VQA's test split (all of them in their order if 0)."""
    if task == "scenes":
        return list(itertools.islice(scenes(seed), count or 500))
    questions = easy_vqa_examples("test")
    return random.Random(seed).sample(questions, count) if count else questions


async def evaluate(
    url: str, examples: Sequence[Example], arms: Sequence[Arm], *, seed: int, concurrency: int, record: Path
) -> list[Answered]:
    """Ask every arm every problem, problem by problem; answers in `record` are not asked again.

    Raises EvaluationError.
    """
    done = _recorded(record)
    known = {(one.arm, one.problem) for one in done}
    waiting = [(arm, at) for at in range(len(examples)) for arm in arms if (arm.name, at) not in known]
    try:
        done += await _asked(url, examples, waiting, seed, concurrency, record)
    except ExceptionGroup as group:
        first = group.exceptions[0]
        if isinstance(first, EvaluationError | httpx.HTTPError):
            raise EvaluationError(f"{url}: {first}") from first
        raise
    return [one for one in done if one.problem < len(examples) and one.arm in {arm.name for arm in arms}]


async def _asked(
    url: str, examples: Sequence[Example], waiting: Sequence[tuple[Arm, int]], seed: int, concurrency: int, record: Path
) -> list[Answered]:
    done: list[Answered] = []
    room = asyncio.Semaphore(concurrency)
    with record.open("a") as file, tqdm(total=len(waiting), unit="answer") as bar:
        async with httpx.AsyncClient(base_url=url, timeout=600) as client, asyncio.TaskGroup() as group:
            model = (await client.get("/v1/models")).raise_for_status().json()["data"][0]["id"]

            async def ask(arm: Arm, at: int) -> None:
                try:
                    answered = await _ask(client, model, examples[at], arm, at, seed)
                finally:
                    room.release()
                done.append(answered)
                file.write(json.dumps(asdict(answered)) + "\n")
                file.flush()
                bar.update()

            for arm, at in waiting:
                await room.acquire()
                group.create_task(ask(arm, at))
    return done


def _recorded(record: Path) -> list[Answered]:
    return [Answered(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []


def table(answers: Sequence[Answered], arms: Sequence[Arm]) -> str:
    """Accuracy with its 95 % Wilson interval, the paired difference to the first arm with its 95 % bootstrap interval
    (in points), and the cost of an answer."""
    rows = [f"{'policy':<32} {'right':>18} {'vs first':>20} {'tokens':>7} {'gens':>6} {'retraces':>8}"]
    first = {one.problem: one.right for one in answers if one.arm == arms[0].name}
    for arm in arms:
        mine = [one for one in answers if one.arm == arm.name]
        low, high = wilson(sum(one.right for one in mine), len(mine))
        share = sum(one.right for one in mine) / len(mine)
        gains = [one.right - first[one.problem] for one in mine if one.problem in first]
        down, up = bootstrap(gains)
        rows.append(
            f"{arm.name:<32} {share:6.1%} [{low:5.1%},{high:6.1%}]"
            f" {100 * _mean(gains):+6.1f} [{100 * down:+5.1f},{100 * up:+5.1f}]"
            f" {_mean([one.tokens for one in mine]):7.0f} {_mean([one.generations for one in mine]):6.1f}"
            f" {_mean([one.retraces for one in mine]):8.2f}"
        )
    return "\n".join(rows)


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share (E. B. Wilson, JASA 22, 1927)."""
    share, spread = hits / count, z * z / count
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / count + spread / count / 4)
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over resampled `values`."""
    rng = random.Random(seed)
    means = sorted(_mean(rng.choices(values, k=len(values))) for _ in range(BOOTSTRAPS))
    return means[round(0.025 * BOOTSTRAPS)], means[round(0.975 * BOOTSTRAPS) - 1]


async def _ask(client: httpx.AsyncClient, model: str, example: Example, arm: Arm, at: int, seed: int) -> Answered:
    content = [
        {"type": "image_url", "image_url": {"url": example.data_url}},
        {"type": "text", "text": example.question},
    ]
    body = {"model": model, "messages": [{"role": "user", "content": content}], "seed": seed + at, "swires": arm.swires}
    reply = await client.post("/v1/chat/completions", json=body)
    if reply.is_error:
        raise EvaluationError(f"{arm.name}: the server answered {reply.status_code}: {reply.text[:300]}")
    answer = reply.json()
    search = answer["swires"]
    return Answered(
        arm.name,
        at,
        example.answer,
        answer["choices"][0]["message"]["content"],
        answer["usage"]["completion_tokens"],
        search["generations"],
        search["retraces"],
        search["seconds"],
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
