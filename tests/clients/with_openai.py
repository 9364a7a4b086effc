# /// script
# requires-python = ">=3.11"
# dependencies = ["openai==3.57.0"]
# ///
"""openai-python"""

import asyncio
import json
import sys
from typing import Any, Literal

import openai
from pydantic import BaseModel

url, model, question, image = sys.argv[1:]
server: Any = {"base_url": f"{url}/v1", "api_key": "none"}
client = openai.OpenAI(**server)

image_part = {"type": "image_url", "image_url": {"url": image}}
messages: Any = [{"role": "user", "content": [image_part, {"type": "text", "text": question}]}]
chat: Any = {"model": model, "messages": messages, "temperature": 0}

input_parts = [{"type": "input_image", "image_url": image}, {"type": "input_text", "text": question}]
items: Any = [{"role": "user", "content": input_parts}]
response: Any = {"model": model, "input": items, "temperature": 0}


class Answer(BaseModel):
    left: Literal["none", "one", "more"]


def chat_completion() -> dict[str, str]:
    message = client.chat.completions.create(**chat).choices[0].message
    return {"content": message.content, "reasoning": message.reasoning}


def chat_stream() -> dict[str, str]:
    content = reasoning = ""
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **chat):
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning", "")
    assert chunk.usage.completion_tokens > 0
    return {"content": content, "reasoning": reasoning}


async def async_chat() -> dict[str, str]:
    async with openai.AsyncOpenAI(**server) as client:
        completion = await client.chat.completions.create(**chat)
    return {"content": completion.choices[0].message.content}


async def async_chat_stream() -> dict[str, str]:
    async with openai.AsyncOpenAI(**server) as client, client.chat.completions.stream(**chat) as stream:
        completion = await stream.get_final_completion()
    return {"content": str(completion.choices[0].message.content)}


def parsed_chat() -> dict[str, str]:
    completion = client.chat.completions.parse(response_format=Answer, **chat)
    assert isinstance(completion.choices[0].message.parsed, Answer)
    return {}


def extra_body() -> dict[str, str]:
    completion = client.chat.completions.create(extra_body={"swires": {"policy": "greedy"}}, **chat)
    assert completion.swires["policy"] == "greedy"
    return {}


def whole_response() -> dict[str, str]:
    answer = client.responses.create(**response)
    stages = [item.content[0].text for item in answer.output if item.type == "reasoning"]
    return {"content": answer.output_text, "reasoning": "\n\n".join(stages)}


def response_stream() -> dict[str, str]:
    content = ""
    for event in client.responses.create(stream=True, **response):
        if event.type == "response.output_text.delta":
            content += event.delta
    assert event.type == "response.completed"
    return {"content": content}


async def async_response() -> dict[str, str]:
    async with openai.AsyncOpenAI(**server) as client:
        answer = await client.responses.create(**response)
    return {"content": answer.output_text}


async def async_response_stream() -> dict[str, str]:
    async with openai.AsyncOpenAI(**server) as client, client.responses.stream(**response) as stream:
        answer = await stream.get_final_response()
    return {"content": answer.output_text}


def parsed_response() -> dict[str, str]:
    answer = client.responses.parse(text_format=Answer, **response)
    assert isinstance(answer.output_parsed, Answer)
    return {}


def several_turns() -> dict[str, str]:
    again = {"role": "user", "content": question}
    message = client.chat.completions.create(**chat).choices[0].message
    assert (
        client.chat.completions.create(**{**chat, "messages": [*messages, message, again]}).choices[0].message.content
    )
    output = client.responses.create(**response).output
    assert client.responses.create(**{**response, "input": [*items, *output, again]}).output_text
    return {}


def refusal() -> dict[str, str]:
    param = None
    try:
        client.chat.completions.create(**{**chat, "temperature": 3})
    except openai.BadRequestError as error:
        param = error.param
    assert param == "temperature"
    return {}


def models() -> dict[str, str]:
    assert model in [card.id for card in client.models.list()]
    return {}


print(
    json.dumps(
        {
            "`chat.completions`": chat_completion(),
            "its stream": chat_stream(),
            "async": asyncio.run(async_chat()),
            "async stream": asyncio.run(async_chat_stream()),
            "`chat.completions.parse`": parsed_chat(),
            "`extra_body`": extra_body(),
            "`responses`": whole_response(),
            "their stream": response_stream(),
            "async responses": asyncio.run(async_response()),
            "their async stream": asyncio.run(async_response_stream()),
            "`responses.parse`": parsed_response(),
            "several turns": several_turns(),
            "errors that name the field": refusal(),
            "models": models(),
        }
    )
)
