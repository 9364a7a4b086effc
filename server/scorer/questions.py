"""Questions about images in a file, one JSON object on a line: `{"image": FILE or data URL, "question": TEXT}`."""

from base64 import b64decode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from swires.errors import SwiresError


class QuestionsError(SwiresError):
    """The file of questions cannot be used."""


@dataclass(frozen=True, slots=True)
class Question:
    image: Image.Image
    text: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    image: str
    question: str


def read_questions(path: Path) -> list[Question]:
    """Files of images are looked for beside `path`. Raises QuestionsError, naming the line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionsError(f"{path}: {error}") from error
    if not lines:
        raise QuestionsError(f"{path}: holds no question")
    return [_question(line, path, number) for number, line in enumerate(lines, 1)]


def _question(text: str, path: Path, number: int) -> Question:
    try:
        line = _Line.model_validate_json(text)
        return Question(Image.open(BytesIO(_image_bytes(line.image, path.parent))).convert("RGB"), line.question)
    except ValidationError as error:
        raise QuestionsError(f"{path}, line {number}: {error.errors()[0]['msg']}") from error
    except (OSError, ValueError) as error:
        raise QuestionsError(f"{path}, line {number}: the image cannot be read") from error


def _image_bytes(image: str, folder: Path) -> bytes:
    if image.startswith("data:"):
        return b64decode(image.partition(",")[2], validate=True)
    return (folder / image).read_bytes()
