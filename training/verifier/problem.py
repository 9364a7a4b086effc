"""Problems that a policy is tried on: a question about a picture, and the answer that is known to be right."""

import hashlib
import json
from base64 import b64decode
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict

from training.data.annotation.image import data_url
from training.data.image import FORMATS, open_image, rgb
from training.evaluation.problems import problems
from training.verifier.errors import BadFile
from training.verifier.jsonl import read

TASKS = ("scenes", "easy-vqa")


class Problem(BaseModel):
    """`image` is a data URL or the path of a file."""

    model_config = ConfigDict(frozen=True)

    image: str
    question: str
    answer: str

    @property
    def key(self) -> str:
        """The same for the same problem, whatever else is in its file."""
        told = json.dumps([self.image, self.question, self.answer])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def url(self) -> str:
        """The picture as it goes into a request. Raises training.data.annotation.errors.BadImage."""
        if self.image.startswith("data:"):
            return self.image
        return data_url(Path(self.image).parent, Path(self.image).name)


def open_picture(image: str) -> Image.Image:
    """As the server decodes it. Raises training.data.rejection.Rejected for a file that holds none."""
    if not image.startswith("data:"):
        return open_image(Path(image).parent, Path(image).name)
    with Image.open(BytesIO(b64decode(image.partition(",")[2])), formats=FORMATS) as picture:
        return rgb(picture)


def read_problems(source: str, count: int, seed: int) -> list[Problem]:
    """The first `count` of a file as `swires calibrate` reads it, its paths relative to it, or of a demo task.

    All of them if `count` is 0, of the endless scenes 500. Raises BadFile.
    """
    if source in TASKS:
        return [
            Problem(image=one.data_url, question=one.question, answer=one.answer)
            for one in problems(source, count, seed)
        ]
    path = Path(source)
    found = [_beside(path, problem) for problem in read(path, Problem)][: count or None]
    if not found:
        raise BadFile(f"{path}: holds no problem")
    return found


def _beside(file: Path, problem: Problem) -> Problem:
    if problem.image.startswith("data:"):
        return problem
    return problem.model_copy(update={"image": str(file.parent.resolve() / problem.image)})
