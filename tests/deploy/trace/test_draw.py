"""A trace as it is drawn."""

from pathlib import Path
from typing import Any

from PIL import Image

from deploy.trace.draw import as_picture, as_text, of_search
from deploy.trace.receiver import Received


def span(key: str, name: str, start: float, end: float, *, parent: str = "", **attributes: Any) -> Received:
    told = {f"swires.{key}": value for key, value in attributes.items()}
    return Received("swires", name, "t", key, parent, start, end, told, (), False)


SEARCH = [
    span("b", "chat demo", 10.1, 12, parent="a"),
    span("d", "CAPTION", 11, 11.9, parent="b", stage="CAPTION"),
    span("c", "SUMMARY", 10.2, 11, parent="b", stage="SUMMARY"),
    span("e", "score", 11.5, 11.6, parent="d", candidates=4, scorer="verifier"),
    span("a", "POST /", 10, 12, parent="elsewhere"),
]

TEXT = """\
   at ms       ms  span
     0.0   2000.0  POST /
   100.0   1900.0    chat demo
   200.0    800.0      SUMMARY
  1000.0    900.0      CAPTION
  1500.0    100.0        score 4 by verifier
"""


def test_text_has_a_span_a_line_under_its_parent() -> None:
    assert as_text(SEARCH) == TEXT


def test_other_traces_are_left_out() -> None:
    start = Received("vllm", "load", "other", "x", "", 1, 2, {}, (), False)
    assert of_search([start, *SEARCH]) == SEARCH


def test_a_picture_is_made(tmp_path: Path) -> None:
    as_picture(SEARCH, tmp_path / "trace.png")
    with Image.open(tmp_path / "trace.png") as picture:
        assert picture.width > 1000
