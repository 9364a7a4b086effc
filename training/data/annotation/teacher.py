"""A model behind an OpenAI-compatible API, asked until it answers."""

import asyncio
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from training.data.annotation.call import Call, Reply
from training.data.annotation.errors import TeacherFailed, Unanswered
from training.data.annotation.image import data_url
from training.data.annotation.pace import Pace, Wait

FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0
TRY_AGAIN = frozenset({408, 409, 425, 429})
NO_USE = frozenset({401, 402, 404, 405})
"""What holds for every request alike: the key, the credit, the address or the model's name."""


class _Passing(Exception):
    """A failure that the next try may not meet."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass
class Teacher:
    """`request` holds the fields of every request; `wait` lets time pass, and raises Stopped when the run is to end."""

    base_url: str
    request: Mapping[str, Any]
    images: Path
    pace: Pace
    wait: Wait
    api_key: str = ""
    retries: int = 5
    timeout_s: float = 300.0
    _reached: bool = field(default=False, init=False)

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(headers=headers, timeout=None, limits=limits)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, call: Call) -> Reply:
        """Raises Unanswered, BadImage, TeacherFailed, Stopped."""
        body = await asyncio.to_thread(self._body, call)
        num_failed = 0
        while True:
            await self.pace.turn()
            try:
                return await self._post(body)
            except _Passing as error:
                num_failed += 1
                if num_failed > self.retries:
                    raise Unanswered("unavailable", str(error)) from error
                await self._rest(num_failed, error.retry_after_s)

    def _body(self, call: Call) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": call.prompt}]
        if call.image is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": data_url(self.images, call.image)}})
        return json.dumps({**self.request, "messages": [{"role": "user", "content": content}]}).encode()

    async def _rest(self, num_failed: int, retry_after_s: float | None) -> None:
        """A wait that the teacher asks for is for all of its calls, one of our own for this call alone."""
        if retry_after_s is not None:
            self.pace.pause(retry_after_s)
        else:
            longest = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (num_failed - 1))
            await self.wait(random.uniform(longest / 2, longest))

    async def _post(self, body: bytes) -> Reply:
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            async with asyncio.timeout(self.timeout_s):
                response = await self._client.post(url, content=body, headers={"Content-Type": "application/json"})
        except TimeoutError as error:
            raise _Passing(f"no answer within {self.timeout_s:g} s") from error
        except httpx.RequestError as error:
            if isinstance(error, httpx.ConnectError) and not self._reached:
                raise TeacherFailed(f"cannot reach {self.base_url}: {error}") from error
            raise _Passing(f"the connection broke: {error or type(error).__name__}") from error
        self._reached = True
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
        try:
            return read_reply(response.content)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise _Passing(f"not a chat completion: {_short(response.text)}") from error


def refusal(response: httpx.Response) -> Exception:
    """What an answer without success means for the call and for the run."""
    status, (code, message) = response.status_code, _error(response)
    told = f"the teacher answered {status}: {message}"
    if status in NO_USE or code == "insufficient_quota":
        return TeacherFailed(told)
    if status in TRY_AGAIN or status >= 500:
        return _Passing(told, retry_after_s(response.headers))
    return Unanswered("rejected", told)


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds, or a date as in RFC 9110, section 10.2.3; OpenAI's own header tells milliseconds."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        if (number := _number(headers.get(name), scale)) is not None:
            return max(0.0, number)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def read_reply(data: bytes) -> Reply:
    """Raises what reading raises when this is no chat completion."""
    body = json.loads(data)
    choice = body["choices"][0]
    text, refused = choice["message"].get("content"), choice["message"].get("refusal")
    if not isinstance(text, str | None) or not isinstance(refused, str | None):
        raise TypeError("content is a text")
    usage = body.get("usage")
    return Reply(
        text or "",
        choice.get("finish_reason"),
        refused,
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _count(usage: object, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _error(response: httpx.Response) -> tuple[str | None, str]:
    """Code and message, where the error is of OpenAI's shape."""
    try:
        error = response.json()["error"]
        return error.get("code"), _short(error["message"])
    except (ValueError, TypeError, LookupError, AttributeError):
        return None, _short(response.text)


def _short(text: str) -> str:
    return " ".join(text.split())[:200]


def _number(text: str | None, scale: float) -> float | None:
    try:
        number = float(text or "") / scale
    except ValueError:
        return None
    return number if math.isfinite(number) else None
