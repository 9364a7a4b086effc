"""A small question about a small image: it warms the engine up and makes the curl line that users can paste."""

import base64
import json
import shlex
from io import BytesIO

from PIL import Image, ImageDraw

QUESTION = "Subtract all red circles. How many objects are left?"


def image() -> Image.Image:
    """A red circle and a blue square, as in the demo task."""
    scene = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(scene)
    draw.ellipse((9, 9, 22, 22), "red")
    draw.rectangle((41, 41, 54, 54), "blue")
    return scene


def curl(url: str, model: str) -> str:
    """A command that asks the server at `url`; it carries the image."""
    out = BytesIO()
    image().quantize(4).save(out, "PNG", optimize=True)
    data_url = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": data_url}}, {"type": "text", "text": QUESTION}]
    body = {"model": model, "messages": [{"role": "user", "content": parts}]}
    return f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
