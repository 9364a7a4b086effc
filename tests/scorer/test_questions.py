import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from server.scorer.questions import QuestionsError, read_questions


def line(image: str) -> str:
    return json.dumps({"image": image, "question": "How many?", "answer": "2"}) + "\n"


def test_images_are_files_or_data_urls(tmp_path: Path) -> None:
    image = Image.new("L", (3, 2))
    image.save(tmp_path / "one.png")
    image.save(inline := BytesIO(), "PNG")
    path = tmp_path / "questions.jsonl"
    path.write_text(line("one.png") + line("data:image/png;base64," + b64encode(inline.getvalue()).decode()))
    questions = read_questions(path)
    assert [question.text for question in questions] == ["How many?"] * 2
    assert [(question.image.size, question.image.mode) for question in questions] == [((3, 2), "RGB")] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no question"),
        ("{}", "line 1: Field required"),
        ("no json", "line 1: Invalid JSON"),
        (line("absent.png"), "line 1: the image cannot be read"),
        (line("data:image/png;base64,????"), "line 1: the image cannot be read"),
        (line("data:image/png;base64,AAAA"), "line 1: the image cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text)
    with pytest.raises(QuestionsError, match=message):
        read_questions(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match="absent"):
        read_questions(tmp_path / "absent.jsonl")
