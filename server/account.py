"""One request from its first byte to its last: its id, what is noted of it on the way, its line in the log."""

import logging
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.span import Span, current

if TYPE_CHECKING:
    from server.tracing import Tracing

HEADER = "X-Request-Id"
SAFE_ID = re.compile(r"[\w.:/=+@-]{1,128}", re.ASCII)
SEARCHES = {"/v1/chat/completions", "/v1/responses"}
PROBES = {"/health", "/ready", "/metrics"}
"""Asked every few seconds."""

MAX_PATH_CHARS = 200

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Account:
    """`facts` are told in the log's line."""

    request_id: str
    facts: dict[str, Any] = field(default_factory=dict)


CURRENT: ContextVar[Account | None] = ContextVar("account", default=None)
"""Of the request that the task at hand works for."""


def note(**facts: Any) -> None:
    """Of the current request, if there is one."""
    account = CURRENT.get()
    if account is not None:
        account.facts |= facts


def request_id() -> str | None:
    account = CURRENT.get()
    return None if account is None else account.request_id


class Accounted:
    """Around the whole app, so that no answer is without its id and its line."""

    def __init__(self, app: ASGIApp, tracing: "Tracing | None") -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        account = Account(_request_id(headers))
        CURRENT.set(account)  # for good, as the server logs an error that comes out of here

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                account.facts["status"] = message["status"]
                MutableHeaders(scope=message)[HEADER] = account.request_id
            await send(message)

        with self._traced(account, scope, headers), _logged(account, scope):
            await self._app(scope, receive, send_with_id)

    @contextmanager
    def _traced(self, account: Account, scope: Scope, headers: Headers) -> Generator[None, None, None]:
        """What may be a search; all else takes no time."""
        if self._tracing is None or scope["method"] != "POST" or scope["path"] not in SEARCHES:
            yield
            return
        told = {
            "http.request.method": "POST",
            "http.route": scope["path"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "swires.request_id": account.request_id,
        }
        with current(self._tracing.request(f"POST {scope['path']}", headers, told)) as span:
            try:
                yield
            finally:
                _tell(span, account.facts)


def _tell(span: Span, facts: Mapping[str, Any]) -> None:
    status = facts.get("status")
    span.set({"http.response.status_code": status, "swires.key": facts.get("key")})
    if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR or facts.get("outcome") == "failed":
        span.fail(str(facts.get("code", status)))


def _request_id(headers: Headers) -> str:
    """The client's, where it can stand in a header and in a log."""
    given = headers.get(HEADER, "")
    return given if SAFE_ID.fullmatch(given) else uuid4().hex


@contextmanager
def _logged(account: Account, scope: Scope) -> Generator[None, None, None]:
    start = time.monotonic()
    try:
        yield
    finally:
        told = {
            "method": scope["method"],
            "path": scope["path"][:MAX_PATH_CHARS],
            "client": (scope.get("client") or (None,))[0],
            "seconds": round(time.monotonic() - start, 4),
            **account.facts,
        }
        level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
        logger.log(level, "search" if "outcome" in told else "request", extra={"facts": told})
