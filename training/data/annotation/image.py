"""A picture as it travels in a request."""

import base64
import io
from pathlib import Path

from PIL import Image

from training.data.annotation.errors import BadImage
from training.data.image import open_image
from training.data.rejection import Rejected

AS_IS = ("JPEG", "PNG", "WEBP", "GIF")
"""The formats that OpenAI's API takes; others are sent as PNG."""


def data_url(folder: Path, name: str) -> str:
    """Raises BadImage for what `training data check` would reject."""
    try:
        image = open_image(folder, name)
    except Rejected as error:
        raise BadImage(error.reason, str(error)) from error
    kind, data = _sendable(folder / name, image)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _sendable(path: Path, decoded: Image.Image) -> tuple[str, bytes]:
    with Image.open(path) as image:
        if image.format in AS_IS:
            return Image.MIME[image.format], path.read_bytes()
    file = io.BytesIO()
    decoded.save(file, "PNG")
    return "image/png", file.getvalue()
