"""A folder of pictures, and the command, run in the tests' own process."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.training.data.records import Command
from training.__main__ import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one picture, dots/a.png."""
    folder = tmp_path / "images"
    (folder / "dots").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(folder / "dots" / "a.png")
    return folder


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `python -m training data` in this process."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["training", "data", *map(str, arguments)])
        main()

    return run
