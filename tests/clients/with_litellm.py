# /// script
# requires-python = ">=3.11"
# dependencies = ["litellm==1.110.2"]
# ///
"""LiteLLM"""

import asyncio
import json
import sys
from typing import Any, Literal

import litellm
from pydantic import BaseModel

url, model, question, image = sys.argv[1:]
server: Any = {"model": f"hosted_vllm/{model}", "api_base": f"{url}/v1", "api_key": "none", "temperature": 0}

image_part = {"type": "image_url", "image_url": {"url": image}}
messages: Any = [{"role": "user", "content": [image_part, {"type": "text", "text": question}]}]
input_parts = [{"type": "input_image", "image_url": image}, {"type": "input_text", "text": question}]


class Answer(BaseModel):
    left: Literal["none", "one", "more"]


def completion() -> dict[str, str]:
    message = litellm.completion(messages=messages, **server).choices[0].message
    return {"content": message.content, "reasoning": message.reasoning_content}


def streamed() -> dict[str, str]:
    deltas = [chunk.choices[0].delta for chunk in litellm.completion(messages=messages, stream=True, **server)]
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    return {"content": "".join(delta.content or "" for delta in deltas), "reasoning": reasoning}


async def completion_async() -> dict[str, str]:
    completion = await litellm.acompletion(messages=messages, **server)
    return {"content": completion.choices[0].message.content}


def structured() -> dict[str, str]:
    completion = litellm.completion(messages=messages, response_format=Answer, **server)
    Answer.model_validate_json(completion.choices[0].message.content)
    return {}


def extra_body() -> dict[str, str]:
    completion = litellm.completion(messages=messages, extra_body={"swires": {"policy": "greedy"}}, **server)
    assert completion.swires["policy"] == "greedy"
    return {}


def responses() -> dict[str, str]:
    response = litellm.responses(input=[{"role": "user", "content": input_parts}], **server)
    stages = [item.content[0].text for item in response.output if item.type == "reasoning"]
    return {"content": response.output_text, "reasoning": "\n\n".join(stages)}


def several_turns() -> dict[str, str]:
    message = litellm.completion(messages=messages, **server).choices[0].message
    again = {"role": "user", "content": question}
    assert litellm.completion(messages=[*messages, message, again], **server).choices[0].message.content
    return {}


def refusal() -> dict[str, str]:
    message = ""
    try:
        litellm.completion(messages=messages, **{**server, "temperature": 3})
    except litellm.BadRequestError as error:
        message = error.message
    assert "temperature" in message
    return {}


print(
    json.dumps(
        {
            "`completion`": completion(),
            "its stream": streamed(),
            "`acompletion`": asyncio.run(completion_async()),
            "`response_format`": structured(),
            "`extra_body`": extra_body(),
            "`responses`": responses(),
            "several turns": several_turns(),
            "errors that name the field": refusal(),
        }
    )
)
