import asyncio
import base64
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from server import images as served
from training.data.image import open_image
from training.data.rejection import Reason, Rejected


def reason(folder: Path, name: str) -> Reason:
    with pytest.raises(Rejected) as raised:
        open_image(folder, name)
    return raised.value.reason


@pytest.mark.parametrize("name", ["../a.png", "dots/../../a.png", "dots/../dots/a.png", "/etc/passwd", ".."])
def test_paths_that_lead_out_of_the_folder(images: Path, name: str) -> None:
    (images.parent / "a.png").write_bytes((images / "dots" / "a.png").read_bytes())
    assert reason(images, name) == Reason.IMAGE_OUTSIDE_FOLDER


@pytest.mark.parametrize("name", ["", "dots", "dots/b.png", "dots/a.png/a.png", "\0", "x" * 5000])
def test_pictures_that_are_not_there(images: Path, name: str) -> None:
    assert reason(images, name) == Reason.IMAGE_MISSING


def test_a_pipe_is_not_waited_for(images: Path) -> None:
    os.mkfifo(images / "pipe.png")
    assert reason(images, "pipe.png") == Reason.IMAGE_MISSING


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif"])
def test_pictures_cut_short(images: Path, suffix: str) -> None:
    whole = images / f"whole.{suffix}"
    Image.effect_noise((64, 64), 80).save(whole)
    assert open_image(images, whole.name).size == (64, 64)
    data = whole.read_bytes()
    for length in (0, 10, len(data) // 2):
        (images / "cut").write_bytes(data[:length])
        assert reason(images, "cut") == Reason.IMAGE_UNREADABLE


def test_no_picture_makes_a_program_run(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: ran.append(arguments))
    Image.new("RGB", (8, 8)).save(images / "a.png", "EPS")
    assert reason(images, "a.png") == Reason.IMAGE_UNREADABLE
    assert ran == []


def test_links_into_the_folder_are_followed(images: Path, tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "coco" / "b.png")
    (images / "coco").symlink_to(tmp_path / "coco")
    assert open_image(images, "coco/b.png").size == (3, 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "I;16"])
def test_pixels_are_those_that_the_server_sees(images: Path, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (16, 12, 4), dtype=np.uint8)
    image = (
        Image.fromarray(values[..., :2].copy().view(np.uint16)[..., 0])
        if mode == "I;16"
        else Image.fromarray(values).convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path = images / "b.png"
    image.save(path, exif=exif)
    url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    limits = served.ImageLimits(max_images=1, max_bytes=10_000, max_pixels=10_000)
    (seen,) = asyncio.run(served.load([served.ImageSource("messages", url)], limits))
    learned = open_image(images, path.name)
    assert (learned.mode, learned.size) == ("RGB", (16, 12))
    assert learned.tobytes() == seen.tobytes()
