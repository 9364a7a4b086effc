from hypothesis import given
from hypothesis import strategies as st

from server.engine.plain_text import BREAK, PlainText, pieces
from swires.stages import TAGS

SPECIAL = ["<|end|>", "<image>", "image>", "<<", "+", "  "]
UNDER_TEST = PlainText(SPECIAL)
SNIPPETS = st.lists(st.sampled_from([*SPECIAL, *TAGS, "<|", "end|>", "<", ">", "im", "age", " ", BREAK, "x"]))


@given(SNIPPETS)
def test_no_piece_holds_a_special_token_and_nothing_is_lost(snippets: list[str]) -> None:
    text = "".join(snippets)
    parts = pieces(UNDER_TEST.broken(text))
    assert "".join(parts) == text.replace(BREAK, "")
    assert not any(special in part for part in parts for special in (*TAGS, "<|end|>", "<image>", "image>", "<<"))


@given(SNIPPETS)
def test_nor_does_one_of_texts_that_the_prompt_puts_side_by_side(snippets: list[str]) -> None:
    parts = pieces("".join(map(UNDER_TEST.broken, snippets)))
    assert not any(special in part for part in parts for special in (*TAGS, "<|end|>", "<image>", "image>", "<<"))


def test_text_without_special_tokens_is_not_touched() -> None:
    assert UNDER_TEST.broken("How many <b>red</b> ones,  2 + 3?") == "How many <b>red</b> ones,  2 + 3?"
