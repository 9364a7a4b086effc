"""Keeping what a user typed from being read as a special token or a stage tag."""

import re
from collections.abc import Iterable

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
