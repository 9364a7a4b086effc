"""Between ids and text where the two do not end at the same place."""

from collections.abc import Callable, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str: ...


def decoded(tokenizer: Tokenizer, ids: Sequence[int], *, after: int) -> str:
    """The text of `ids` where they follow the id `after`: some tokenizers drop a space at the beginning of a text."""
    before = tokenizer.decode([after], skip_special_tokens=False)
    return tokenizer.decode([after, *ids], skip_special_tokens=False)[len(before) :]


def trimmed(
    ids: Sequence[int], text: str, *, decode: Callable[[Sequence[int]], str], encode: Callable[[str], Sequence[int]]
) -> list[int]:
    """Cut the sampled `ids` to `text`, which they may reach beyond.

    As many of the sampled ids stay as fit; only what the text then lacks, the stop string or its end, is encoded anew:
    the ids decode to the text, and the engine's prefix cache still knows nearly all of them.
    """
    kept = len(ids)
    while not text.startswith(begun := decode(ids[:kept])):
        kept -= 1
    return [*ids[:kept], *encode(text[len(begun) :])]
