"""Clients each of which asks again as soon as it is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from deploy.bench.questions import Question


@dataclass(frozen=True, slots=True)
class Answered:
    """The text of CONCLUSION; what was generated for it, losing candidates included; seconds from the question to the
    first text of the answer, tags aside, and to its end."""

    content: str
    tokens: int
    generations: int
    first_s: float
    seconds: float


Ask: TypeAlias = Callable[[Question], Awaitable[Answered]]


@dataclass(frozen=True, slots=True)
class Load:
    """The answers, in the order of the questions, and the seconds from the first question to the last answer."""

    answers: tuple[Answered, ...]
    seconds: float


async def closed_loop(ask: Ask, questions: Sequence[Question], clients: int) -> Load:
    """Ask all questions in their order, `clients` at a time."""
    answers = dict[int, Answered]()
    waiting = iter(enumerate(questions))

    async def client() -> None:
        for index, question in waiting:
            answers[index] = await ask(question)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    seconds = time.perf_counter() - started
    return Load(tuple(answers[index] for index in range(len(questions))), seconds)
