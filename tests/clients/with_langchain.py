# /// script
# requires-python = ">=3.11"
# dependencies = ["langchain-openai==1.7.4"]
# ///
"""langchain-openai"""

import asyncio
import json
import sys
from typing import Any, Literal

from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url, model, question, image = sys.argv[1:]
server: Any = {"base_url": f"{url}/v1", "api_key": "none", "model": model, "temperature": 0}
chat = ChatOpenAI(**server)
by_responses = ChatOpenAI(use_responses_api=True, **server)

image_part = {"type": "image_url", "image_url": {"url": image}}
messages: Any = [{"role": "user", "content": [image_part, {"type": "text", "text": question}]}]


class Answer(BaseModel):
    """How many are left."""

    left: Literal["none", "one", "more"]


def invoked() -> dict[str, str]:
    return {"content": chat.invoke(messages).text}


def streamed() -> dict[str, str]:
    return {"content": "".join(chunk.text for chunk in chat.stream(messages, stream_usage=True))}


async def invoked_async() -> dict[str, str]:
    return {"content": (await chat.ainvoke(messages)).text}


def structured() -> dict[str, str]:
    assert isinstance(chat.with_structured_output(Answer).invoke(messages), Answer)
    return {}


def extra_body() -> dict[str, str]:
    greedy = chat.invoke(messages, extra_body={"swires": {"policy": "greedy"}})
    assert greedy.usage_metadata["output_tokens"] < chat.invoke(messages).usage_metadata["output_tokens"]
    return {}


def responses() -> dict[str, str]:
    message = by_responses.invoke(messages)
    stages = [block["extras"]["content"][0]["text"] for block in message.content_blocks if block["type"] == "reasoning"]
    return {"content": message.text, "reasoning": "\n\n".join(stages)}


def streamed_responses() -> dict[str, str]:
    return {"content": "".join(chunk.text for chunk in by_responses.stream(messages))}


def several_turns() -> dict[str, str]:
    for model in (chat, by_responses):
        assert model.invoke([*messages, model.invoke(messages), ("user", question)]).text
    return {}


print(
    json.dumps(
        {
            "`invoke`": invoked(),
            "`stream`": streamed(),
            "`ainvoke`": asyncio.run(invoked_async()),
            "`with_structured_output`": structured(),
            "`extra_body`": extra_body(),
            "`use_responses_api`": responses(),
            "its `stream`": streamed_responses(),
            "several turns": several_turns(),
        }
    )
)
