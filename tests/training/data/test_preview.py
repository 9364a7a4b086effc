import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from swires.stages import Stage
from tests.training.data.records import TEXTS, Command, record, staged, write


class Page(HTMLParser):
    """Texts by the class of the section they are in, sources of pictures, and that what opens also closes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[tuple[str, str]] = []
        self.images: list[str] = []
        self.names: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.names.add(tag)
        if tag == "section":
            self.sections.append((values["class"] or "", ""))
        if tag == "img":
            self.images.append(values["src"] or "")
        if tag not in ("img", "br", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self.open and self.open[-1] in ("p", "pre"):
            name, text = self.sections[-1]
            self.sections[-1] = (name, text + data)


def test_a_page_with_pictures_and_stages(images: Path, tmp_path: Path, data: Command) -> None:
    Image.new("RGB", (2000, 1000), "blue").save(images / "large.png")
    file = write(tmp_path / "a.jsonl", [record(), record(staged(), staged(), image="large.png")])
    data("preview", file, "--images", images, "--out", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert page.sections == [(stage.name, text) for stage, text in TEXTS.items()] * 3
    sizes = []
    for source in page.images:
        head, _, payload = source.partition(",")
        assert head == "data:image/webp;base64"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(payload))).size)
    assert sizes == [(8, 6), (640, 320)]


def test_nothing_is_loaded_and_both_themes_are_there(images: Path, tmp_path: Path, data: Command) -> None:
    data("preview", write(tmp_path / "a.jsonl", [record()]), "--images", images, "--out", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|url\(|<script|<link|@import", html)
    assert "prefers-color-scheme: dark" in html
    for stage in Stage:
        assert len(re.findall(rf"--{stage.name.lower()}: #", html)) == 2


def test_texts_are_escaped(images: Path, tmp_path: Path, data: Command) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'"
    good = record(staged({**TEXTS, Stage.CAPTION: evil}), id=evil)
    good["conversations"][0]["value"] = evil
    lines = [good, record(evil + "\ud800", id=evil), record(image=evil), evil.encode() + b"\xff"]
    file = write(tmp_path / "<b>.jsonl", lines)
    data("preview", file, "--images", images, "--out", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not page.names & {"script", "b"}
    assert len(page.images) == 1
    assert ("CAPTION", evil) in page.sections
    assert [name for name, _ in page.sections].count("rejected") == 3


def test_a_rejected_record_can_be_read(images: Path, tmp_path: Path, data: Command) -> None:
    """Through its last turn, with line breaks and letters as they are meant; what is no JSON as it stands."""
    long = staged({**TEXTS, Stage.CAPTION: "Two dots.\n\nBoth are déjà vu. " * 100})
    file = write(tmp_path / "a.jsonl", [record(long, "Two."), b"{broken"])
    data("preview", file, "--images", images, "--out", tmp_path / "page.html")
    (_, first), (_, second) = Page((tmp_path / "page.html").read_text()).sections
    assert first.startswith("turn 2: there are no tags")
    assert "Two dots.\n\nBoth are déjà vu." in first
    assert '"value": "Two."' in first
    assert second.endswith("{broken\n")


def test_small_pictures_are_shown_pixel_by_pixel(images: Path, tmp_path: Path, data: Command) -> None:
    Image.effect_noise((64, 64), 90).convert("RGB").save(images / "noise.png")
    Image.new("RGB", (300, 20)).save(images / "wide.png")
    file = write(tmp_path / "a.jsonl", [record(image="noise.png"), record(image="wide.png")])
    data("preview", file, "--images", images, "--out", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count("<img class=small") == 1
    shown = Image.open(io.BytesIO(base64.b64decode(Page(html).images[0].partition(",")[2])))
    with Image.open(images / "noise.png") as drawn:
        assert shown.convert("RGB").tobytes() == drawn.tobytes()


def test_no_more_than_were_asked_for(
    images: Path, tmp_path: Path, data: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.jsonl", [record(), b"{", record()])
    data("preview", file, "--images", images, "--out", tmp_path / "page.html", "--count", 2)
    page = Page((tmp_path / "page.html").read_text())
    assert [name for name, _ in page.sections] == [*(stage.name for stage in Stage), "rejected"]
    assert capsys.readouterr().out.startswith("Wrote 2 records")


def test_a_page_is_not_written_over_its_records(images: Path, tmp_path: Path, data: Command) -> None:
    file = write(tmp_path / "a.jsonl", [record()])
    before = file.read_bytes()
    with pytest.raises(SystemExit):
        data("preview", file, "--images", images, "--out", images / ".." / file.name)
    assert file.read_bytes() == before
