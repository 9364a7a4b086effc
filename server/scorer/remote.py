"""Another server, asked in JSON: whatever it does, a score comes back or a ScorerError."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from server.span import trace_headers
from swires.errors import ScorerError

MAX_DETAIL_CHARS = 200

T = TypeVar("T")
Reply = TypeVar("Reply", bound=BaseModel)


@asynccontextmanager
async def connected(name: str, url: str, *, timeout_s: float, key: str | None = None) -> AsyncGenerator["Remote", None]:
    """The server at `url`, called `name` in errors; `timeout_s` bounds each of its silences."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s) as client:
        yield Remote(name, client, key)


class Remote:
    def __init__(self, name: str, client: httpx.AsyncClient, key: str | None = None) -> None:
        self._name = name
        self._client = client
        self._key = key

    async def post(self, path: str, body: object, reply: type[Reply]) -> Reply:
        """Raises ScorerError in one line, without the key."""
        try:
            response = await self._client.post(path, json=body, headers=trace_headers())
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ScorerError(f"the {self._name} does not answer: {reason}") from error
        if not response.is_success:
            raise ScorerError(f"the {self._name} answers {response.status_code}: {self._detail(response)}")
        try:
            return reply.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise ScorerError(f"the {self._name} answers what cannot be read: {where}: {first['msg']}") from error

    def _detail(self, response: httpx.Response) -> str:
        text = " ".join(response.text.split())
        return (text.replace(self._key, "***") if self._key else text)[:MAX_DETAIL_CHARS]


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
