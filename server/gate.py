"""What a request is refused for by its head alone, before anything of it is read."""

import re
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Refused, answer, failure
from server.metrics import Metrics

MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 1024
"""The parser's own limit is to what comes in pieces."""

HOST = re.compile(rb"([\w.~-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", re.ASCII)

Headers = Sequence[tuple[bytes, bytes]]


class Gate:
    """Around the app: the parser of HTTP lets through what proxies read in different ways."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                check(scope)
        except Refused as refused:
            told = failure(refused)
            self._metrics.refused(told)
            await answer(told, {"Connection": "close"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def check(scope: Scope) -> None:
    """Raises Refused: 400, 431."""
    headers: Headers = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
        message = f"the head of a request may have {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes"
        raise Refused(message, status=431, code="head_too_large")
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Refused("a body has a length or comes in chunks, not both", code="invalid_headers")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or not all(map(HOST.fullmatch, hosts)):
        raise Refused("the Host header is not one of a host", code="invalid_headers")
