import json

import pytest
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from server.errors import MAX_MESSAGE_CHARS, MAX_PARAM_CHARS, Refused, failure, invalid
from server.schemas import ChatRequest
from swires import errors
from swires.errors import DeadlineExceeded, EngineError, InvalidPlan, Overloaded, SwiresError

SCHEMA = "response_format.json_schema.schema"
USER = {"role": "user", "content": "How many?"}


def complaint(body: object) -> Refused:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json(json.dumps(body))
    return invalid(caught.value, body)


def chat(**fields: object) -> dict[str, object]:
    return {"model": "demo", "messages": [USER], **fields}


def user(*parts: object) -> dict[str, object]:
    return chat(messages=[USER, {"role": "user", "content": list(parts)}])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("x", None),
        ({"messages": [USER]}, "model"),
        ({"model": "demo"}, "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages={}), "messages"),
        (chat(messages=[5]), "messages[0]"),
        (chat(messages=[{"content": "x"}]), "messages[0]"),
        (chat(messages=[{"role": "tool", "content": "x"}]), "messages[0]"),
        (chat(messages=[{"role": "system", "content": "x"}]), "messages"),
        (chat(messages=[{"role": "user"}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": None}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": []}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": "\0"}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": "x", "name": "me"}]), "messages[0].name"),
        (user({"type": "video"}), "messages[1].content[0]"),
        (user({"type": "text"}), "messages[1].content[0].text"),
        (user({"type": "text", "text": "\0"}), "messages[1].content[0].text"),
        (user({"type": "image_url"}), "messages[1].content[0].image_url"),
        (user({"type": "image_url", "image_url": {}}), "messages[1].content[0].image_url.url"),
        (user({"type": "image_url", "image_url": {"url": 5}}), "messages[1].content[0].image_url.url"),
        (user({"type": "text", "text": "a"}, {"type": "text", "text": "b", "id": 1}), "messages[1].content[1].id"),
        (chat(swires=[]), "swires"),
        (chat(swires={"captoins": 2}), "swires.captoins"),
        (chat(swires={"policy": "mcts"}), "swires.policy"),
        (chat(swires={"captions": "2"}), "swires.captions"),
        (chat(swires={"stages": {"STEP": {}}}), "swires.stages.STEP"),
        (chat(swires={"dry_run": 1}), "swires.dry_run"),
        (chat(swires={"timeout_s": 0}), "swires.timeout_s"),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (chat(top_k=5), "top_k"),
        (chat(temperature=-1), "temperature"),
        (chat(temperature=float("nan")), "temperature"),
        (chat(temperature=float("inf")), "temperature"),
        (chat(top_p=0), "top_p"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_completion_tokens=-1), "max_completion_tokens"),
        (chat(seed=2**63), "seed"),
        (chat(reasoning_effort="extreme"), "reasoning_effort"),
        (chat(stream="yes"), "stream"),
        (chat(n=0), "n"),
        (chat(n=True), "n"),
        (chat(stop=""), "stop"),
        (chat(stop=["a", ""]), "stop[1]"),
        (chat(stop=["a", "b", "c", "d", "e"]), "stop"),
        (chat(stop=3), "stop"),
        (chat(stop="a", swires={"raw": True}), "stop"),
        (chat(logprobs=0), "logprobs"),
        (chat(logprobs=True, swires={"raw": True}), "logprobs"),
        (chat(top_logprobs=5), "top_logprobs"),
        (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
        (chat(logit_bias={"5": 1}), "logit_bias"),
        (chat(response_format={"type": "xml"}), "response_format"),
        (chat(response_format={"type": "json_object", "schema": {}}), "response_format.schema"),
        (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (chat(response_format={"type": "json_schema", "json_schema": {"name": "x"}}), SCHEMA),
        (chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": 3}}), SCHEMA),
        ({"messages": [USER], "n": 0}, "model"),
        (chat(tools=[]), "tools"),
        (chat(tool_choice="auto"), "tool_choice"),
        (chat(functions=[]), "functions"),
        (chat(function_call="auto"), "function_call"),
        (chat(modalities=["text", "audio"]), "modalities"),
        (chat(audio={}), "audio"),
        (chat(prediction={}), "prediction"),
        (chat(presence_penalty=False), "presence_penalty"),
        (chat(presence_penalty=0.5), "presence_penalty"),
        (chat(frequency_penalty=0.5), "frequency_penalty"),
        (chat(verbosity="high"), "verbosity"),
        (chat(web_search_options={}), "web_search_options"),
        (chat(moderation={}), "moderation"),
    ],
)
def test_a_complaint_names_the_field(body: object, param: str | None) -> None:
    refused = complaint(body)
    assert (refused.status, refused.param) == (400, param)
    assert str(refused).startswith(param or "")


def test_a_complaint_is_short_however_long_the_field() -> None:
    refused = complaint(chat(**{"x" * 100_000: 1}))
    assert len(refused.param or "") == MAX_PARAM_CHARS
    assert len(str(refused)) <= MAX_MESSAGE_CHARS


def test_a_body_that_is_no_json() -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json("{")
    assert str(invalid(caught.value, None)) == "the body is not valid JSON"


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        (Refused("no", status=413, param="a", code="b"), 413, "invalid_request_error", "a", "b"),
        (InvalidPlan("no", field="swires.keep"), 400, "invalid_request_error", "swires.keep", "invalid_value"),
        (Overloaded("full"), 503, "server_error", None, "overloaded"),
        (DeadlineExceeded("at /x"), 504, "server_error", None, "deadline_exceeded"),
        (EngineError("at /x"), 500, "server_error", None, "engine_error"),
        (EngineError("at /x", dead=True), 503, "server_error", None, "engine_error"),
        (HTTPException(404, "Not Found"), 404, "invalid_request_error", None, None),
        (KeyError("/x"), 500, "server_error", None, "internal_error"),
    ],
)
def test_what_a_client_is_told(error: Exception, status: int, kind: str, param: str | None, code: str | None) -> None:
    told = failure(error)
    (inner,) = told.body.values()
    assert isinstance(inner, dict)
    assert told.status == status
    assert (inner["type"], inner["param"], inner["code"]) == (kind, param, code)
    assert "/x" not in inner["message"]


def test_overload_says_when_to_come_back() -> None:
    assert failure(Overloaded("full", retry_after_s=7)).headers == {"Retry-After": "7"}


def test_every_swires_error_is_answered() -> None:
    """A new kind of error needs a decision on what the client is told."""
    decided = {SwiresError, InvalidPlan, Overloaded, EngineError, errors.ScorerError, DeadlineExceeded}
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SwiresError)}
    assert kinds == decided
