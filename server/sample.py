"""A small question about a small image: it warms the engine up and makes the curl line that users can paste."""

import json
import shlex
from typing import Any

from PIL import Image, ImageDraw

from server.images import data_url

QUESTION = "Subtract all red circles. How many objects are left?"


def image() -> Image.Image:
    """A red circle and a blue square, as in the demo task."""
    scene = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(scene)
    draw.ellipse((9, 9, 22, 22), "red")
    draw.rectangle((41, 41, 54, 54), "blue")
    return scene


def message() -> dict[str, Any]:
    """The question as a client asks it."""
    image_part = {"type": "image_url", "image_url": {"url": data_url(image().quantize(4))}}
    return {"role": "user", "content": [image_part, {"type": "text", "text": QUESTION}]}


def curl(url: str, model: str) -> str:
    """A command that asks the server at `url`; it carries the image."""
    body = {"model": model, "messages": [message()]}
    return f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
