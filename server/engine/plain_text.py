"""Keeping what a user typed from being read as a special token or a stage tag."""

import re
from collections.abc import Iterable, Sequence

from swires.stages import TAGS

BREAK = "\ufdd0"
"""A Unicode noncharacter, free for use inside a program: stands where a special token is broken in two."""


class PlainText:
    """Breaks the special tokens in a text, so that its pieces, tokenized one by one, hold none.

    A text that ends like the beginning of one ends its piece, since what follows it in the prompt may be the rest. One
    of a single character stays as it is: it has no other form.
    """

    def __init__(self, special_tokens: Iterable[str]) -> None:
        texts = {text for text in (*special_tokens, *TAGS) if len(text) > 1 and not text.isspace()}
        any_of_them = "|".join(map(re.escape, sorted(texts)))
        self._first_character = re.compile(f"(?={any_of_them})(.)", re.DOTALL)
        self._beginnings = tuple({text[:length] for text in texts for length in range(1, len(text))})

    def broken(self, text: str) -> str:
        text = text.replace(BREAK, "")
        end = BREAK if text.endswith(self._beginnings) else ""
        return self._first_character.sub(rf"\1{BREAK}", text) + end


def pieces(text: str) -> list[str]:
    """Of a text with broken special tokens in it."""
    return text.split(BREAK)


def unbroken(ids: Sequence[int], break_ids: Sequence[int], num_breaks: int) -> list[int]:
    """The places in `ids` that hold no break, where a text was tokenized with its breaks in it. Raises ValueError."""
    width, kept, place = len(break_ids), list[int](), 0
    while place < len(ids):
        if list(ids[place : place + width]) == list(break_ids):
            place += width
        else:
            kept.append(place)
            place += 1
    if len(ids) - len(kept) != num_breaks * width:
        raise ValueError("a special token could not be broken")
    return kept
