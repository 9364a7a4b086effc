"""Images of a request: data URLs, refused by their header before a pixel is decoded, decoded off the event loop."""

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps

from server.errors import Refused

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
MIN_SIDE = 2
MAX_ASPECT = 100
MAX_SCANS = 64
"""Of a progressive JPEG, which has some ten: 40 bytes make one more, and each is decoded over all pixels."""

SCAN = b"\xff\xda"
_decoders = ThreadPoolExecutor(2, thread_name_prefix="decode-image")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where an image is asked for, and its URL."""

    param: str
    url: str


@dataclass(frozen=True, slots=True)
class ImageLimits:
    max_images: int
    max_bytes: int
    max_pixels: int


async def load(sources: Sequence[ImageSource], limits: ImageLimits) -> list[Image.Image]:
    """The images as RGB, in order. Raises Refused: 400, 413, 415, or 422 for an image that cannot be used."""
    loop = asyncio.get_running_loop()
    decoded = (loop.run_in_executor(_decoders, _decoded, source, limits) for source in within(sources, limits))
    return [await image for image in decoded]


def within(sources: Sequence[ImageSource], limits: ImageLimits) -> Sequence[ImageSource]:
    """As many as there may be. Raises Refused: 400."""
    if len(sources) > limits.max_images:
        message, param = f"at most {limits.max_images} image(s) a request", sources[limits.max_images].param
        raise Refused(message, param=param, code="too_many_images")
    return sources


def data_url(image: Image.Image) -> str:
    image.save(out := BytesIO(), "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _decoded(source: ImageSource, limits: ImageLimits) -> Image.Image:
    data = _data(source, limits.max_bytes)
    try:
        with Image.open(BytesIO(data), formats=tuple(FORMATS.values())) as image:
            _check_size(image, limits.max_pixels, source.param)
            if image.format in ("JPEG", "MPO") and data.count(SCAN) > MAX_SCANS:
                raise Refused("the image has too many scans", status=422, param=source.param, code="invalid_image")
            return _rgb(image)
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(limits.max_pixels, source.param) from None
    except Exception as error:  # whatever Pillow makes of hostile bytes
        raise Refused("the image cannot be decoded", status=422, param=source.param, code="invalid_image") from error


def _data(source: ImageSource, max_bytes: int) -> bytes:
    header, _, payload = source.url.partition(",")
    scheme, _, description = header.lower().partition(":")
    media_type, *parameters = description.split(";")
    if scheme != "data" or "base64" not in parameters or not payload:
        raise Refused("an image must be a data: URL in base64", param=source.param, code="invalid_image_url")
    if media_type not in FORMATS:
        message = f"an image must be one of {', '.join(FORMATS)}"
        raise Refused(message, status=415, param=source.param, code="unsupported_image_type")
    if len(payload) * 3 // 4 - payload[-2:].count("=") > max_bytes:
        raise too_many_bytes(max_bytes, source.param)
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError:
        raise Refused("the image is not valid base64", param=source.param, code="invalid_image_url") from None


def too_many_bytes(max_bytes: int, param: str) -> Refused:
    message = f"an image may have at most {max_bytes} bytes"
    return Refused(message, status=413, param=param, code="image_too_large")


def _check_size(image: Image.Image, max_pixels: int, param: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(max_pixels, param)
    short, long = sorted(image.size)
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        message = f"an image must have sides of at least {MIN_SIDE} pixels and an aspect of at most {MAX_ASPECT}:1"
        raise Refused(message, status=422, param=param, code="invalid_image")


def _too_large(max_pixels: int, param: str) -> Refused:
    return Refused(f"an image may have at most {max_pixels} pixels", param=param, code="image_too_large")


def _rgb(image: Image.Image) -> Image.Image:
    """Upright, transparent parts on white, as vLLM does it."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel; a plain conversion would clip instead of scale
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return upright.convert("RGB")
