"""What is shown of an answer: up to a stop string, the same whole and in pieces; and the tokens it is made of."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.content import Pieces, Stopper, content
from swires.events import Event, SearchFinished, TextCommitted
from swires.stages import Stage
from swires.types import Candidate, TokenLogprob, Trajectory
from tests.swires.scripted import many
from tests.swires.test_parser import TEXTS, cut

NO_RESULT: Any = None
THE_END = SearchFinished(NO_RESULT)  # which is not looked at


def stopped(text: str, stops: tuple[str, ...], chance: Random) -> str:
    """`text` fed in chunks."""
    stopper, shown = Stopper(stops), ""
    while text:
        length = chance.randint(1, 3)
        shown, text = shown + stopper.feed(text[:length]), text[length:]
    return shown + stopper.close()


def slowly(text: str, stops: tuple[str, ...]) -> str:
    """A character at a time, as one would by hand."""
    for end in range(1, len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - len(max(complete, key=len))]
    return text


@pytest.mark.parametrize("seed", range(200))
def test_a_stop_string_ends_a_text_whatever_the_chunks(seed: int) -> None:
    chance = Random(seed)
    text = "".join(chance.choices("ab\n", k=12))
    stops = tuple("".join(chance.choices("ab\n", k=chance.randint(1, 4))) for _ in range(chance.randint(0, 4)))
    expected = slowly(text, stops)
    assert stopped(text, stops, chance) == stopped(text, stops, Random(seed + 1)) == expected


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stopper = Stopper(("END", "\n\n"))
    assert [stopper.feed(text) for text in ("4 E", "N", "O\n", "5", "E", "ND 6", "7")] == [
        "4 ", "", "ENO", "\n5", "", "", "",
    ]  # fmt: skip
    assert stopper.met
    assert stopper.close() == ""


def test_an_open_end_is_shown() -> None:
    stopper = Stopper(("END",))
    assert stopper.feed("4 EN") + stopper.close() == "4 EN"
    assert not stopper.met


def answer(*texts: str, logprobs: bool = False) -> Trajectory:
    trajectory = Trajectory()
    for stage, text in zip(Stage, texts, strict=False):
        told = tuple(TokenLogprob(character, -1.0) for character in text) if logprobs else ()
        ids = tuple(map(ord, text))
        trajectory = trajectory.then(Candidate(stage, stage, text, ids, "stop", token_logprobs=told))
    return trajectory


WHOLE = answer(
    "<SUMMARY>To do: X.</SUMMARY>",
    "<CAPTION>X</CAPTION>",
    "<REASONING>1</REASONING>",
    "<CONCLUSION> 4 X 5\n</CONCLUSION>",
)


def test_stop_strings_are_of_the_conclusion_alone() -> None:
    told = content(WHOLE, raw=False, stops=("X",))
    assert (told.text, told.reasoning, told.finished) == ("4 ", ("To do: X.", "X", "1"), True)
    assert 0 < told.num_tokens < content(WHOLE, raw=False, stops=()).num_tokens
    pieces = Pieces(raw=False, stops=("X",))
    texts: dict[Stage, str] = {}
    for character in WHOLE.text:
        for piece in pieces.of(TextCommitted(character)):
            texts[piece.stage] = texts.get(piece.stage, "") + piece.text
    assert tuple(texts.values()) == (*told.reasoning, told.text)


def parts_of(text: str, data: st.DataObject) -> tuple[str, ...]:
    """Of some characters each."""
    places = data.draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(2, 4)), max_size=2))
    return tuple(filter(None, (text[at : at + length] for at, length in places)))


@many
@given(st.lists(TEXTS, max_size=4), st.booleans(), st.data())
def test_pieces_make_up_what_is_shown_of_the_whole(texts: list[str], raw: bool, data: st.DataObject) -> None:
    whole = answer(*texts)
    stops = () if raw else parts_of(whole.text, data)
    told = content(whole, raw=raw, stops=stops)
    pieces = Pieces(raw=raw, stops=stops)
    text, reasoning = "", list[str]()
    events: list[Event] = [*map(TextCommitted, cut(whole.text, data)), THE_END]
    for event in events:
        for piece in pieces.of(event):
            if piece.stage is Stage.CONCLUSION:
                text += piece.text
            else:
                reasoning.append(("" if piece.begins else reasoning.pop()) + piece.text)
    assert (text, tuple(reasoning)) == (told.text, told.reasoning)


def test_a_conclusion_that_is_cut_after_a_stop_string_is_finished() -> None:
    cut = WHOLE.parent.then(Candidate(3, Stage.CONCLUSION, "<CONCLUSION>4 X 5", (1,), "length"))
    assert not content(cut, raw=False, stops=()).finished
    assert content(cut, raw=False, stops=("X",)).finished


@pytest.mark.parametrize(
    ("texts", "stops", "expected"),
    [
        (("<SUMMARY>4</SUMMARY>", "", "", "<CONCLUSION>\n4 circles </CONCLUSION>"), (), "4 circles"),
        (("<SUMMARY>4</SUMMARY>", "", "", "<CONCLUSION>4 circles</CONCLUSION>"), ("c",), "4 "),
        (("<SUMMARY>4</SUMMARY>", "", "", "<CONCLUSION>C</CONCLUSION>"), (), "C"),
        (("<SUMMARY>4</SUMMARY>", "", "", "<CONCLUSION>4</CONCLUSION>"), ("4",), ""),
        (("no tags at all",), (), "no tags at all"),
        ((), (), ""),
    ],
)
def test_the_log_probabilities_are_those_of_the_shown_tokens(
    texts: tuple[str, ...], stops: tuple[str, ...], expected: str
) -> None:
    told = content(answer(*texts, logprobs=True), raw=False, stops=stops)
    assert told.text == expected
    assert "".join(token.text for token in told.logprobs) == expected


def test_a_token_that_reaches_beyond_the_text_counts() -> None:
    tokens = tuple(TokenLogprob(text, -1.0) for text in ("<CONCLUSION>", " four", "", "é.", "</CONCLUSION>", ""))
    text = "<CONCLUSION> fouré.</CONCLUSION>"
    whole = Trajectory().then(Candidate(0, Stage.CONCLUSION, text, (1,) * 6, "stop", token_logprobs=tokens))
    assert [token.text for token in content(whole, raw=False, stops=(".",)).logprobs] == [" four", "", "é."]


def test_no_token_counts_where_there_is_no_text() -> None:
    tokens = (TokenLogprob("<CONCLUSION>4", -1.0), TokenLogprob("</CONCLUSION>", -1.0))
    whole = Trajectory().then(
        Candidate(0, Stage.CONCLUSION, "<CONCLUSION>4</CONCLUSION>", (1, 1), "stop", token_logprobs=tokens)
    )
    assert content(whole, raw=False, stops=("4",)).logprobs == ()
    assert content(whole, raw=False, stops=()).logprobs == tokens[:1]
