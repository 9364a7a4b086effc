"""On a tokenizer of bytes: a character may be several tokens, and ids may end within one."""

import re
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.writing import HELD_BACK, End, Likely, Writing, side_by_side
from swires.protocols import Chunk
from swires.types import Sampling

BEFORE, END_OF_ANSWER, CLOSING = ord(">"), 0, 1
PLAIN = Sampling()
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), min_size=1, max_size=12)


def encode(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def writing(sampling: Sampling = PLAIN, *, live: bool = False, may_stop: bool = False, num_at_once: int = 1) -> Writing:
    return Writing(3, BEFORE, encode, decode, sampling, live=live, may_stop=may_stop, num_at_once=num_at_once)


def told(it: Writing, ids: Sequence[int]) -> list[Chunk]:
    """What is handed on where the ids come one by one."""
    chunks = list[Chunk | None]()
    for token in ids:
        it.take((token,))
        chunks.append(it.begun())
    return [chunk for chunk in chunks if chunk]


def text_of(chunks: Sequence[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def ids_of(chunks: Sequence[Chunk]) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.token_ids)


@given(TEXTS)
def test_what_is_shown_live_is_whole_characters_and_never_changes(text: str) -> None:
    it = writing(live=True)
    chunks = told(it, encode(text))
    assert all(decode(chunk.token_ids) == chunk.text for chunk in chunks)
    assert text_of([*chunks, it.last(End("length"), 0, 0)]) == text
    assert len(chunks) == len(text)


@given(TEXTS, st.lists(st.integers(1, 9), min_size=48, max_size=48))
def test_nor_is_a_character_cut_where_many_ids_come_at_once(text: str, sizes: list[int]) -> None:
    it, ids = writing(live=True), encode(text)
    chunks = list[Chunk | None]()
    for size in sizes:
        it.take(ids[:size])
        ids = ids[size:]
        chunks.append(it.begun())
    shown = [chunk for chunk in chunks if chunk]
    assert all(decode(chunk.token_ids) == chunk.text for chunk in shown)
    assert text_of([*shown, it.last(End("length"), 0, 0)]) == text


def test_a_piece_is_read_behind_the_id_before_it() -> None:
    def capitals(ids: Sequence[int]) -> str:
        return re.sub(r"(?<=\.).", lambda first: first[0].upper(), decode(ids))

    it = Writing(3, ord("."), encode, capitals, PLAIN, live=True)
    assert text_of(told(it, encode("ab.cd.."))) == "Ab.Cd.."


@given(TEXTS, st.integers(0, 3))
def test_text_and_ids_are_all_told_where_a_character_is_cut(text: str, cut: int) -> None:
    ids = encode(text)[: len(encode(text)) - cut]
    it = writing(live=True)
    chunks = told(it, ids)
    chunks.append(it.last(End("length"), 0, 0))
    assert (text_of(chunks), ids_of(chunks)) == (decode(ids), ids)


def test_a_quiet_candidate_tells_its_ids_and_in_the_end_its_text() -> None:
    it = writing(num_at_once=4)
    chunks = told(it, encode("0123456789"))
    assert [(chunk.text, len(chunk.token_ids)) for chunk in chunks] == [("", 4), ("", 4)]
    assert it.last(End("length"), 7, 5) == Chunk(3, "0123456789", encode("89"), "length", None, 7, 5)


@given(TEXTS, TEXTS, st.text("xyz", max_size=HELD_BACK - 1), st.booleans())
def test_a_stop_string_ends_text_and_ids_whatever_was_handed_on(
    before: str, stop: str, beyond: str, live: bool
) -> None:
    text = before + stop
    text = text[: text.index(stop) + len(stop)]
    it = writing(live=live, may_stop=True)
    chunks = told(it, encode(text)[:-1])
    it.take(encode(text)[-1:] + encode(beyond))
    assert it.through(stop) == text
    chunks.append(it.last(End("stop", text=text), 0, 0))
    assert (text_of(chunks), decode(ids_of(chunks))) == (text, text)


def test_of_several_stop_strings_the_first_to_end_counts() -> None:
    it = writing()
    it.take(encode("one, two."))
    assert it.through("two.", ", t", ".") == "one, t"
    assert it.through("?") is None


def test_the_token_that_ends_an_answer_belongs_to_none() -> None:
    it = writing(Sampling(likelihood=True))
    it.take((*encode("ab"), END_OF_ANSWER), [(-1.0, ()), (-2.0, ()), (-4.0, ())])
    assert it.last(End("stop", of_answer=True), 0, 0) == Chunk(3, "ab", encode("ab"), "stop", -3.0)
    assert it.last(End("stop"), 0, 0).logprob == -7.0


def test_each_sampled_token_is_told_with_the_likeliest_first() -> None:
    first: Likely = (-1.0, [(ord("x"), -3.0), (ord("a"), -1.0), (ord("y"), -2.0)])
    it = writing(Sampling(top_logprobs=2))
    it.take((ord("a"), END_OF_ANSWER), [first, (-0.5, [(END_OF_ANSWER, -0.5)])])
    one, two = it.last(End("stop", of_answer=True), 0, 0).token_logprobs
    assert (one.text, one.logprob, one.top) == ("a", -1.0, (("a", -1.0), ("y", -2.0)))
    assert (two.text, two.logprob) == ("", -0.5)


def test_what_was_not_handed_on_is_forgotten_with_its_log_probabilities() -> None:
    it = writing(Sampling(likelihood=True), may_stop=True)
    for token in encode("abcdef"):
        it.take((token,), [(-1.0, ())])
    assert it.begun() == Chunk(3, "", encode("ab"))
    it.rewind()
    it.take(encode("xy"), [(-2.0, ())] * 2)
    assert it.last(End("length"), 0, 0) == Chunk(3, "abxy", encode("xy"), "length", -6.0)


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason", "end"),
    [
        ("stop", CLOSING, End("stop")),
        ("stop", None, End("stop", of_answer=True)),
        ("stop", 9, End("stop", of_answer=True)),
        ("stop", ".", End("stop", text="to .")),
        ("length", None, End("length")),
        ("repetition", None, End("stop")),
    ],
)
def test_an_end_as_vllm_tells_it(finish_reason: str, stop_reason: int | str | None, end: End) -> None:
    assert End.told(finish_reason, stop_reason, CLOSING, lambda stop: f"to {stop}") == end


@pytest.mark.parametrize(("room", "expected"), [(1, Chunk(0, "a", (5,), "stop")), (0, Chunk(0, "", (), "length"))])
async def test_without_room_nothing_is_sampled(room: int, expected: Chunk) -> None:
    async def sample(index: int) -> AsyncGenerator[Chunk, None]:
        yield Chunk(index, "a", (5,), "stop")

    chunks = [chunk async for chunk in side_by_side(3, room, sample)]
    assert sorted(chunk.index for chunk in chunks) == [0, 1, 2]
    assert chunks[0] == expected
