import base64
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from server.errors import Refused
from server.images import ImageLimits, ImageSource, load

LIMITS = ImageLimits(max_images=2, max_bytes=100_000, max_pixels=1_000_000)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


RED = encoded(Image.new("RGB", (8, 8), "red"))


async def loaded(*urls: str, limits: ImageLimits = LIMITS) -> list[Image.Image]:
    return await load([ImageSource(f"image[{index}]", url) for index, url in enumerate(urls)], limits)


async def refusal(*urls: str, limits: ImageLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        await loaded(*urls, limits=limits)
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_the_four_formats(kind: str) -> None:
    (image,) = await loaded(url(encoded(Image.new("RGB", (8, 8), "red"), kind), f"image/{kind.lower()}"))
    red, green, blue = image.getpixel((4, 4))  # type: ignore[misc]
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert red > 240
    assert green < 15
    assert blue < 15


async def test_the_scheme_and_type_are_read_in_any_case() -> None:
    assert await loaded("DATA:image/PNG;Base64," + base64.b64encode(RED).decode())


@pytest.mark.parametrize(
    "bad",
    [
        "http://127.0.0.1/x.png",
        "file:///etc/passwd",
        "",
        "data:image/png",
        "data:image/png;base64,",
        "data:image/png,abc",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,\u00fc",
    ],
)
async def test_only_base64_data_urls(bad: str) -> None:
    refused = await refusal(bad)
    assert (refused.status, refused.param) == (400, "image[0]")


@pytest.mark.parametrize("media_type", ["image/svg+xml", "application/pdf", "image/tiff", "text/html", ""])
async def test_other_types_are_415(media_type: str) -> None:
    assert (await refusal(url(RED, media_type))).status == 415


async def test_too_many_bytes_are_413() -> None:
    limits = ImageLimits(max_images=1, max_bytes=len(RED) - 1, max_pixels=1000)
    assert (await refusal(url(RED), limits=limits)).status == 413
    assert await loaded(url(RED), limits=ImageLimits(max_images=1, max_bytes=len(RED), max_pixels=1000))


async def test_too_many_images_are_400() -> None:
    assert (await refusal(url(RED), url(RED), url(RED))).status == 400


@pytest.mark.parametrize(
    "data",
    [
        b"not an image",
        RED[: len(RED) // 2],
        RED[:-20] + bytes(20),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        encoded(Image.new("RGB", (8, 8)), "TIFF"),
        encoded(Image.new("RGB", (1, 1))),
        encoded(Image.new("RGB", (2, 500))),
    ],
)
async def test_what_cannot_be_used_is_422_without_internals(data: bytes) -> None:
    refused = await refusal(url(data))
    assert refused.status == 422
    assert "0x" not in str(refused)


@pytest.mark.parametrize("side", [1001, 13_000, 20_000])
async def test_too_many_pixels_are_refused_from_the_header(side: int) -> None:
    """The file holds a header and no pixels at all, so that decoding it would fail in another way."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    png += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    refused = await refusal(url(png))
    assert (refused.status, refused.code) == (400, "image_too_large")


async def test_a_jpeg_that_is_decoded_over_and_over_is_422() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    begin, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    scan = data[begin:end]
    assert await loaded(url(data[:end] + 20 * scan + data[end:], "image/jpeg"))
    assert (await refusal(url(data[:end] + 1000 * scan + data[end:], "image/jpeg"))).status == 422


async def test_transparent_parts_are_white() -> None:
    (image,) = await loaded(url(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))))
    assert image.getpixel((0, 0)) == (255, 255, 255)


async def test_a_palette_with_transparency() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    (image,) = await loaded(url(encoded(palette, transparency=0)))
    assert image.getpixel((0, 0)) == (255, 255, 255)


async def test_sixteen_bits_are_scaled() -> None:
    (image,) = await loaded(url(encoded(Image.new("I;16", (8, 8), 0x8000))))
    assert image.getpixel((0, 0)) == (128, 128, 128)


async def test_cmyk() -> None:
    (image,) = await loaded(url(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"), "image/jpeg"))
    assert image.getpixel((0, 0)) == (255, 255, 255)


async def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("blue", "red", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    (image,) = await loaded(url(data, "image/gif"))
    assert image.getpixel((0, 0)) == (0, 0, 255)


async def test_the_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn off
    (image,) = await loaded(url(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif), "image/jpeg"))
    assert image.size == (4, 8)
