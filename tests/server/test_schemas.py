"""No field of OpenAI's APIs is unknown here: each is honoured, or refused by its own name."""

import pytest
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from server.responses_schemas import ResponsesRequest
from server.schemas import ChatRequest, Request


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (completion_create_params.CompletionCreateParamsBase, ChatRequest),
        (completion_create_params.CompletionCreateParamsStreaming, ChatRequest),
        (response_create_params.ResponseCreateParamsBase, ResponsesRequest),
        (response_create_params.ResponseCreateParamsStreaming, ResponsesRequest),
    ],
)
def test_every_field_is_known(asked: type, kind: type[Request]) -> None:
    assert set(asked.__annotations__) - set(kind.model_fields) == set()
