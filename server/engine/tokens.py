"""Between ids and text where the two do not end at the same place."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

Encode: TypeAlias = Callable[[str], Sequence[int]]
Decode: TypeAlias = Callable[[Sequence[int]], str]

CHARACTER_IN_PIECES = "\ufffd"
"""What a part of a character decodes to."""

MAX_TOKENS_OF_CHARACTER = 4


def text_of(ids: Sequence[int], tokenizer: Any) -> str:
    """Special tokens and all. A fast tokenizer is asked itself: vLLM's and transformers' wrappers around it take ten
    times as long, with each live token."""
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    return str(fast.decode(list(ids), skip_special_tokens=False))


def decoded(ids: Sequence[int], *, after: int, decode: Decode) -> str:
    """The text of `ids` where they follow the id `after`: some tokenizers drop a space at the beginning of a text."""
    return decode([after, *ids])[len(decode([after])) :]


def pieces_of(ids: Sequence[int], text: str, *, after: int, decode: Decode) -> Iterator[tuple[int, str]]:
    """What each of `ids`, which may reach beyond `text`, adds to it, with the id before it.

    A character of several tokens is added by the last of them.
    """
    character, pending = [after], list[int]()
    for before, token in pairwise([after, *ids]):
        pending.append(token)
        piece = decode([*character, *pending])[len(decode(character)) :]
        if piece.endswith(CHARACTER_IN_PIECES) and len(pending) < MAX_TOKENS_OF_CHARACTER:
            yield before, ""
            continue
        piece, text = text[: len(piece)], text[len(piece) :]
        yield before, piece
        character, pending = pending, []


def trimmed(ids: Sequence[int], text: str, *, decode: Decode, encode: Encode) -> list[int]:
    """Cut the sampled `ids` to `text`, which they may reach beyond.

    As many of the sampled ids stay as fit; only what the text then lacks, the stop string or its end, is encoded anew:
    the ids decode to the text, and the engine's prefix cache still knows nearly all of them.
    """
    kept = len(ids)
    while not text.startswith(begun := decode(ids[:kept])):
        kept -= 1
    return [*ids[:kept], *following(text[len(begun) :], encode=encode)]


def following(text: str, *, encode: Encode) -> list[int]:
    """The ids of `text` where it goes on from other text: some tokenizers put a space before whatever they are given.

    Behind a line break, which is a token by itself, they have put it already.
    """
    begun, ids = list(encode("\n")), list(encode("\n" + text))
    return ids[len(begun) :] if ids[: len(begun)] == begun else list(encode(text))
