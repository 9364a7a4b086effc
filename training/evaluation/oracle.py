"""A scorer that knows the truth: what a search would reach if only its scoring were perfect.

It speaks vLLM's /classify, so that the real server asks it as it would a reward model.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

from swires.parser import parse
from training.tasks.example import Example
from training.tasks.truth import is_true

LOGIT = 4.0
UNKNOWN = 0.0
PER_CHARACTER = 1e-4
"""Longer is better by so much: where all are true, as summaries are, scores without a deviation have no scale."""


class Conversation(BaseModel):
    messages: list[Mapping[str, Any]]


class Oracle:
    """Knows `examples` by picture and question."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = {(one.image.tobytes(), one.question): one for one in examples}

    def logit(self, messages: Sequence[Mapping[str, Any]]) -> float:
        """Of the newest stage of the answer being true; UNKNOWN for a problem that it does not know."""
        *asked, said = messages
        parts = [part for message in asked for part in message["content"]]
        picture = b"".join(_pixels(part["image_url"]["url"]) for part in parts if part["type"] == "image_url")
        question = "".join(part["text"] for part in parts if part["type"] == "text")
        example = self._examples.get((picture, question))
        sections = parse("".join(part["text"] for part in said["content"]))
        if example is None or not sections:
            return UNKNOWN
        last = sections[-1]
        return (LOGIT if is_true(example, last.stage, last.text) else -LOGIT) + PER_CHARACTER * len(last.text)


def _pixels(data_url: str) -> bytes:
    """Of the picture, which may have been encoded anew on its way."""
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2]))).convert("RGB").tobytes()


def oracle_app(examples: Sequence[Example]) -> FastAPI:
    app, oracle = FastAPI(), Oracle(examples)

    @app.post("/classify")
    async def classify(conversation: Conversation) -> dict[str, Any]:
        return {"data": [{"probs": [oracle.logit(conversation.messages)]}]}

    return app
