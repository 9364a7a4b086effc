"""Slips of the tongue: answers that say something wrong, which a model learns to notice and not to make.

A scene's answer says numbers before the lists that show them. From right answers alone a model would learn to make a
list fit its number, and no list would ever tell a wrong one. After a slip the lists stay true.
"""

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

WRONG = "\x1a"
"""Stands in a text before each word that is wrong."""


class Teller(Protocol):
    def count(self, right: int, most: int) -> int:
        """The number said where `right` would be, `most` at most."""
        ...

    def word(self, right: str, words: Sequence[str]) -> str:
        """The one of `words` said where `right` would be."""
        ...


class Truthful:
    def count(self, right: int, most: int) -> int:
        return min(right, most)

    def word(self, right: str, words: Sequence[str]) -> str:
        return right


TRUTHFUL = Truthful()


class Slipping:
    """Says each number wrong with probability `counts`, mostly by one, each word with probability `words`."""

    def __init__(self, rng: random.Random, *, counts: float, words: float) -> None:
        self.rng, self.counts, self.words = rng, counts, words

    def count(self, right: int, most: int) -> int:
        others = [number for number in range(most + 1) if number != right]
        if not others or self.rng.random() >= self.counts:
            return min(right, most)
        return self.rng.choices(others, [1 / abs(number - right) ** 2 for number in others])[0]

    def word(self, right: str, words: Sequence[str]) -> str:
        if self.rng.random() >= self.words:
            return right
        return self.rng.choice([word for word in words if word != right])


def said(value: object, right: object) -> str:
    """`value` as a text has it, marked where it is not `right`."""
    return f"{WRONG if value != right else ''}{value}"


def unmarked(text: str) -> tuple[str, list[int]]:
    """The text without marks, and where in it the words begin that were marked."""
    parts = text.split(WRONG)
    return "".join(parts), list(accumulate(map(len, parts[:-1])))
