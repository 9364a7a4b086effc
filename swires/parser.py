"""Reads tagged text into its stages, also while it still grows: what is streamed is what is answered."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from swires.stages import TAGS, Stage

_TAG = re.compile("|".join(map(re.escape, TAGS)))
_OPENED = {stage.opening: stage for stage in Stage}
_CLOSED = {stage.closing: stage for stage in Stage}
_PARTIAL = frozenset(tag[:length] for tag in TAGS for length in range(1, len(tag)))


@dataclass(frozen=True, slots=True)
class Section:
    """The text of one stage, without its tags and the white space around it."""

    stage: Stage
    text: str


class Piece(NamedTuple):
    """More text of a section; `begins` on the first piece of each."""

    stage: Stage
    text: str
    begins: bool


class Splitter:
    """Splits text into sections as it comes in, the same whatever the chunks.

    An opening tag begins a section and ends an open one; a closing tag of any other stage is dropped. Sections keep
    the order of their appearance and a stage may come again, but for CONCLUSION, of which the first counts and the
    others are dropped. A section without text is none. Text outside of the tags is held back: it is the CONCLUSION
    if there is no other at the end, and dropped if there is.
    """

    def __init__(self) -> None:
        self._held = ""  # what may be the beginning of a tag
        self._stage: Stage | None = None
        self._begun = False  # the open section has had text
        self._space = ""  # white space that ends the open section, or goes on in it
        self._concluded = False
        self._outside = [""]

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now."""
        text, pieces, start = self._held + text, [], 0
        for tag in _TAG.finditer(text):
            pieces += self._take(text[start : tag.start()])
            self._pass(tag.group())
            start = tag.end()
        end = _end_of_text(text, start)
        self._held = text[end:]
        return pieces + self._take(text[start:end])

    def close(self) -> list[Piece]:
        """The rest, at the end of the text."""
        pieces = self._take(self._held)
        self._held = ""
        self._pass(Stage.CONCLUSION.opening)
        outside = "\n".join(filter(None, map(str.strip, self._outside)))
        return pieces + ([] if self._concluded else self._take(outside))

    def _pass(self, tag: str) -> None:
        if tag in _OPENED:
            self._enter(_OPENED[tag])
        elif _CLOSED[tag] is self._stage:
            self._enter(None)

    def _enter(self, stage: Stage | None) -> None:
        self._stage, self._begun, self._space = stage, False, ""
        self._outside.append("")

    def _take(self, text: str) -> list[Piece]:
        stage = self._stage
        if stage is None:
            self._outside[-1] += text
            return []
        if stage is Stage.CONCLUSION and self._concluded and not self._begun:
            return []
        text = self._space + text if self._begun else text.lstrip()
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if not shown:
            return []
        begins, self._begun = not self._begun, True
        self._concluded |= stage is Stage.CONCLUSION
        return [Piece(stage, shown, begins)]


def _end_of_text(text: str, start: int) -> int:
    """Where a tag may have begun that the text does not yet hold whole."""
    last = text.rfind("<", start)
    return last if last >= 0 and text[last:] in _PARTIAL else len(text)


def parse(text: str) -> tuple[Section, ...]:
    """The sections of a whole text."""
    splitter = Splitter()
    found: list[Section] = []
    for stage, piece, begins in [*splitter.feed(text), *splitter.close()]:
        before = "" if begins else found.pop().text
        found.append(Section(stage, before + piece))
    return tuple(found)
