# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[openai]==2.68.0"]
# ///
"""Pydantic AI"""

import asyncio
import json
import sys
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

url, model, question, image = sys.argv[1:]
provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
prompt = [BinaryContent.from_data_uri(image), question]


class Answer(BaseModel):
    left: Literal["none", "one", "more"]


def agent(kind: Any = OpenAIChatModel, **options: Any) -> Any:
    return Agent(kind(model, provider=provider), model_settings={"temperature": 0}, **options)


def run() -> dict[str, str]:
    result = agent().run_sync(prompt)
    (thinking,) = [part for part in result.response.parts if isinstance(part, ThinkingPart)]
    return {"content": result.output, "reasoning": thinking.content}


async def streamed() -> dict[str, str]:
    async with agent().run_stream(prompt) as result:
        return {"content": "".join([delta async for delta in result.stream_text(delta=True)])}


def structured() -> dict[str, str]:
    assert isinstance(agent(output_type=NativeOutput(Answer)).run_sync(prompt).output, Answer)
    return {}


def responses() -> dict[str, str]:
    return {"content": agent(OpenAIResponsesModel).run_sync(prompt).output}


def several_turns() -> dict[str, str]:
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        history = agent(kind).run_sync(prompt).all_messages()
        assert agent(kind).run_sync(question, message_history=history).output
    return {}


print(
    json.dumps(
        {
            "`run_sync`": run(),
            "`run_stream`": asyncio.run(streamed()),
            "`NativeOutput`": structured(),
            "`OpenAIResponsesModel`": responses(),
            "several turns": several_turns(),
        }
    )
)
