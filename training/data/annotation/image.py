"""A picture as it travels in a request."""

import base64
import io
from pathlib import Path

from PIL import Image

from training.data.annotation.errors import BadImage

AS_IS = ("JPEG", "PNG", "WEBP", "GIF")
"""The formats that OpenAI's API takes; others are sent as PNG."""


def data_url(folder: Path, name: str) -> str:
    """Raises BadImage; a path that leads out of the folder is none of its pictures."""
    data = _bytes(folder, name)
    try:
        kind, data = _sendable(data)
    except Exception as error:  # a broken file makes pillow's decoders raise whatever they meet
        raise BadImage("image_unreadable", f"{name}: {error}") from error
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _bytes(folder: Path, name: str) -> bytes:
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()):
            return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadImage("image_missing", f"{name!r}: {error}") from error
    raise BadImage("image_missing", f"{name!r} leads out of {folder}")


def _sendable(data: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.format in AS_IS:
            return Image.MIME[image.format], data
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
        return "image/png", file.getvalue()
