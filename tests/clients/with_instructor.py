# /// script
# requires-python = ">=3.11"
# dependencies = ["instructor==1.17.0"]
# ///
"""instructor"""

import asyncio
import json
import sys
from typing import Any, Literal

import instructor
import openai
from pydantic import BaseModel

url, model, question, image = sys.argv[1:]
server: Any = {"base_url": f"{url}/v1", "api_key": "none"}
mode = instructor.Mode.JSON_SCHEMA
messages: Any = [{"role": "user", "content": [question, instructor.Image.from_base64(image)]}]


class Answer(BaseModel):
    left: Literal["none", "one", "more"]


asked: Any = {"model": model, "messages": messages, "temperature": 0, "response_model": Answer}


def created() -> dict[str, str]:
    client = instructor.from_openai(openai.OpenAI(**server), mode=mode)
    assert isinstance(client.create(**asked), Answer)
    return {}


def created_partially() -> dict[str, str]:
    client = instructor.from_openai(openai.OpenAI(**server), mode=mode)
    *_, last = client.create_partial(**asked)
    assert last.left in ("none", "one", "more")
    return {}


async def created_async() -> dict[str, str]:
    async with openai.AsyncOpenAI(**server) as http:
        assert isinstance(await instructor.from_openai(http, mode=mode).create(**asked), Answer)
    return {}


print(
    json.dumps(
        {
            "`create`": created(),
            "`create_partial`, a stream": created_partially(),
            "async `create`": asyncio.run(created_async()),
        }
    )
)
