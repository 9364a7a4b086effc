"""Pictures of records, as the server decodes those of requests: upright, RGB, transparent parts on white."""

from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from training.data.rejection import Reason, Rejected

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pillow's decoders those for pictures; others run programs."""


def open_image(folder: Path, name: str) -> Image.Image:
    """Raises Rejected. A name may not lead out of the folder; links that somebody has put into it are followed."""
    path = _path(folder, name)
    try:
        with Image.open(path, formats=FORMATS) as image:
            return rgb(image)
    except Exception as error:  # a broken file makes pillow's decoders raise whatever they meet
        raise Rejected(Reason.IMAGE_UNREADABLE, f"{name}: {error}") from error


def _path(folder: Path, name: str) -> Path:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise Rejected(Reason.IMAGE_OUTSIDE_FOLDER, name)
    try:
        if (path := folder / inside).is_file():
            return path
    except (OSError, ValueError) as error:  # no name that a file could have
        raise Rejected(Reason.IMAGE_MISSING, f"{name[:60]!r}: {error}") from error
    raise Rejected(Reason.IMAGE_MISSING, name)


def rgb(image: Image.Image) -> Image.Image:
    """Upright, transparent parts on white."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel; a plain conversion would clip instead of scale
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return upright.convert("RGB")
