"""One question about one picture, with the answer that a model should learn to give."""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from swires.stages import Stage


@dataclass(frozen=True)
class Example:
    image: Image
    question: str
    stages: Mapping[Stage, str]
    cells: tuple[str, ...] = ()
    """What stands in each cell of the picture's grid, in reading order, where that is told."""

    @property
    def answer(self) -> str:
        return self.stages[Stage.CONCLUSION]

    @property
    def data_url(self) -> str:
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

    @property
    def text(self) -> str:
        """The whole transcript as it is trained, tags included."""
        return transcript(self.stages)


def transcript(stages: Mapping[Stage, str]) -> str:
    return "".join(f"{stage.opening}{stages[stage]}{stage.closing}" for stage in Stage)


def write_questions(examples: Iterable[Example], file: Path) -> None:
    """Questions as `swires calibrate` reads them, a JSON object on each line, the image in it."""
    lines = ({"image": one.data_url, "question": one.question, "answer": one.answer} for one in examples)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
