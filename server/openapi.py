"""The OpenAPI document: what each route takes, every status that it answers with, and an example of each."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from server import __version__, answers, sample
from server.callers import over_share, unknown
from server.errors import Refused, failure
from server.facts import Json
from server.responses_schemas import ResponsesRequest
from server.schemas import ChatRequest
from swires.errors import DeadlineExceeded, EngineError, Overloaded

EXAMPLES = Path(__file__).with_name("examples.json")
"""What a server of the embedded checkpoint has answered; `make docs` writes it anew."""

REQUEST_ID = "9f86d081884c4d659a2feaa0c55ad015"
STRING = {"type": "string"}
REF = "#/components/schemas/{model}"
MODELS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    ResponsesRequest,
    answers.ChatCompletion,
    answers.ResponseTold,
    answers.ModelList,
    answers.Version,
    answers.ErrorAnswer,
)

FAILURES: Mapping[int, tuple[str, Exception]] = {
    400: (
        "A field is not as it has to be; `param` names it.",
        Refused("n: Input should be greater than or equal to 1", param="n", code="greater_than_equal"),
    ),
    401: ("The server asks for a key, and this is none that it knows.", unknown("this key is not known")),
    404: (
        "There is no such model.",
        Refused("model: there is no such model; there are demo", status=404, param="model", code="model_not_found"),
    ),
    408: ("The body took too long to arrive.", Refused("the request took too long to arrive", status=408)),
    413: ("The body or an image is too large.", Refused("a request may have at most 33554432 bytes", status=413)),
    415: ("The body is not JSON, or an image is of another kind.", Refused("the content type must be ...", status=415)),
    422: ("An image cannot be used.", Refused("the image cannot be decoded", status=422, code="invalid_image")),
    429: (
        "This key is over its share of searches or tokens; others are served.",
        over_share("this key may have 4 searches at once", reason="key_searches", retry_after_s=1),
    ),
    431: ("The head of the request has too many headers or bytes.", Refused("the head of a request ...", status=431)),
    500: ("The engine failed on this request.", EngineError("")),
    503: (
        "The server is full, starting or stopping; the same request may be sent again.",
        Overloaded("too many requests at once"),
    ),
    504: ("The time limit was reached before there was any answer.", DeadlineExceeded()),
}


def chat_example(model: str) -> Json:
    return {"model": model, "messages": [sample.message()], "temperature": 0}


def response_example(model: str) -> Json:
    image, text = sample.message()["content"]
    parts = [
        {"type": "input_image", "image_url": image["image_url"]["url"]},
        {"type": "input_text", "text": text["text"]},
    ]
    return {"model": model, "input": [{"role": "user", "content": parts}], "temperature": 0}


def document(model: str) -> Json:
    """Its examples ask for `model`."""
    told = _examples()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "swires",
            "version": __version__,
            "description": "Staged answers about images, searched, behind OpenAI's API.",
        },
        "paths": {
            "/v1/chat/completions": {
                "post": _search(
                    "A chat completion",
                    _json(ChatRequest, chat_example(model)),
                    _json(answers.ChatCompletion, told["chat"]) | _events(told["chat_stream"]),
                )
            },
            "/v1/responses": {
                "post": _search(
                    "A response",
                    _json(ResponsesRequest, response_example(model)),
                    _json(answers.ResponseTold, told["response"]) | _events(told["response_stream"]),
                )
            },
            "/v1/models": {"get": _reading("What a request may ask for", _json(answers.ModelList, told["models"]))},
            "/version": {"get": _reading("Versions of server and engine", _json(answers.Version, told["version"]))},
            "/health": {"get": _probe("Whether process and engine live", "engine_dead")},
            "/ready": {"get": _probe("Whether a request would be served", "not_ready")},
            "/metrics": {"get": _reading("Metrics for Prometheus", _text(CONTENT_TYPE_LATEST, told["metrics"]))},
            "/openapi.json": {"get": _reading("This document", {"application/json": {"schema": {"type": "object"}}})},
            "/": {"get": _reading("The playground", {"text/html": {"schema": STRING}}, keyed=False)},
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _search(summary: str, asked: Json, answer: Json) -> Json:
    failures = {str(status): _failure(told, error) for status, (told, error) in FAILURES.items()}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": {"description": summary, "content": answer}, **failures},
    }


def _reading(summary: str, answer: Json, *, keyed: bool = True) -> Json:
    failures = {"401": _failure(*FAILURES[401])} if keyed else {}
    return {"summary": summary, "responses": {"200": {"description": summary, "content": answer}, **failures}}


def _probe(summary: str, code: str) -> Json:
    no = Refused(code.replace("_", " "), status=503, code=code)
    return {"summary": summary, "responses": {"200": {"description": "Yes"}, "503": _failure("No", no)}}


def _failure(told: str, error: Exception) -> Json:
    """With what `error` is told as."""
    answer = failure(error)
    headers = {name: {"schema": STRING, "example": value} for name, value in answer.headers.items()}
    return {
        "description": told,
        "content": _json(answers.ErrorAnswer, {**answer.body, "request_id": REQUEST_ID}),
        "headers": headers,
    }


def _json(kind: type[BaseModel], example: object) -> Json:
    return {"application/json": {"schema": {"$ref": REF.format(model=kind.__name__)}, "example": example}}


def _text(media_type: str, example: str) -> Json:
    return {media_type: {"schema": STRING, "example": example}}


def _events(example: str) -> Json:
    """The schema is of one event."""
    event = {"type": "object", "properties": {"event": STRING, "data": STRING}, "required": ["data"]}
    return {"text/event-stream": {"schema": event, "example": example}}


@cache
def _schemas() -> Json:
    _, told = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF)
    schemas: Json = told["$defs"]
    return schemas


@cache
def _examples() -> Json:
    examples: Json = from_json(EXAMPLES.read_bytes())
    return examples
