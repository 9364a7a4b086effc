"""The one place that says what a client is told when something goes wrong: OpenAI's error object, no internals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from server.account import note, request_id
from swires.errors import DeadlineExceeded, EngineError, InvalidPlan, Overloaded

MAX_MESSAGE_CHARS = 1000
MAX_PARAM_CHARS = 200
NO_HEADERS: Mapping[str, str] = {}
NOT_AGAIN = {"x-should-retry": "false"}
"""Keeps openai clients from repeating a request that would fail in the same way."""


class Refused(Exception):
    """The gate does not let this request in; `param` names the field at fault, `reason` what there is no room for."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        reason: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.reason = reason
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP status and what goes with it."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    reason: str | None = None  # which metrics count by, where there was no room
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def fault(self) -> bool:
        """Whether it is the server's own, and belongs in its log."""
        return self.code in ("engine_error", "internal_error")

    @property
    def body(self) -> dict[str, object]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def failure(error: Exception) -> Failure:
    """What the client is told about `error`; of what it did not cause, only that it happened."""
    match error:
        case Refused():
            return Failure(error.status, str(error), error.param, error.code, error.reason, error.headers)
        case InvalidPlan():
            return Failure(400, str(error), error.field, "invalid_value")
        case Overloaded():
            headers = {"Retry-After": str(error.retry_after_s)}
            return Failure(503, str(error), code="overloaded", reason=error.reason, headers=headers)
        case DeadlineExceeded():
            message = "the time limit was reached before there was any answer"
            return Failure(504, message, code="deadline_exceeded", headers=NOT_AGAIN)
        case EngineError():
            return Failure(503 if error.dead else 500, "the engine failed on this request", code="engine_error")
        case HTTPException():
            return Failure(error.status_code, error.detail, headers=error.headers or {})
        case _:
            return Failure(500, "internal error", code="internal_error", headers=NOT_AGAIN)


def answer(told: Failure, more: Mapping[str, str] = NO_HEADERS) -> JSONResponse:
    """With the request's id beside the error, for whoever is shown the body alone; `more` are headers."""
    note(code=told.code)
    return JSONResponse({**told.body, "request_id": request_id()}, told.status, {**told.headers, **more})


def invalid(error: ValidationError, body: object) -> Refused:
    """The first complaint about `body`, what it lacks before what it has, by the name of the field."""
    complaints = error.errors(include_url=False, include_context=False, include_input=False)
    first = min(complaints, key=lambda each: each["type"] != "missing")
    param = _param(first["loc"], body, missing=first["type"] == "missing")
    message = "the body is not valid JSON" if first["type"] == "json_invalid" else first["msg"]
    text = f"{param}: {message}" if param else message
    return Refused(text[:MAX_MESSAGE_CHARS], param=param, code=first["type"])


def _param(loc: tuple[int | str, ...], body: object, *, missing: bool) -> str | None:
    """`messages[0].content[1].text`: the steps of `loc` that lead through `body`; the rest name types of our model."""
    path, at, tagged = "", body, False
    for step in loc:
        if isinstance(at, dict) and tagged and step in (at.get("role"), at.get("type")):
            tagged = False  # an element of a union is followed by the name of its branch
        elif isinstance(step, int) and isinstance(at, list):
            path, at, tagged = f"{path}[{step}]", at[step], True
        elif isinstance(at, dict) and step in at:
            path, at, tagged = _joined(path, step), at[step], False
    if missing:
        path = _joined(path, loc[-1])
    return path[:MAX_PARAM_CHARS] or None


def _joined(path: str, step: int | str) -> str:
    return f"{path}.{step}" if path else str(step)
