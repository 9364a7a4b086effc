import json

import pytest

from tests.server.docs.outputs import WIDTH, differences, laid_out, shape

ANSWER = {"id": "chatcmpl-1", "choices": [{"text": "word " * 40, "score": 0.5}, {"text": "", "score": None}], "n": 2}
STREAM = f"data: {json.dumps(ANSWER)}\ndata: [DONE]\n{{no JSON\n{json.dumps([1, 2])}\n400\n"


@pytest.mark.parametrize("output", ["", "4\n", "no line end", json.dumps(ANSWER), STREAM])
def test_what_is_laid_out_says_the_same(output: str) -> None:
    assert differences(laid_out(output), output) == []
    assert laid_out(laid_out(output)) == laid_out(output)


def test_lines_are_as_wide_as_a_page() -> None:
    text = laid_out(json.dumps({"numbers": list(range(300)), "parts": [{"a": {"b": ["c"] * 50}}] * 3}))
    assert 100 < max(map(len, text.splitlines())) <= WIDTH + len("]}]}")


def test_what_is_measured_may_differ() -> None:
    later = ANSWER | {"id": "chatcmpl-2"}
    assert differences(json.dumps(ANSWER), json.dumps(later)) == []
    assert differences("took 1.5 s\n", "took 0.25 s\n") == []


@pytest.mark.parametrize(
    ("real", "told"),
    [
        (ANSWER | {"n": 3}, ".n was 2, is 3"),
        (ANSWER | {"new": 1}, ".new is new"),
        ({"id": "a", "n": 2}, ".choices is gone"),
        (ANSWER | {"id": None}, ".id was 'chatcmpl-1', is None"),
        (ANSWER | {"choices": []}, ".choices was "),
    ],
)
def test_what_is_told_may_not(real: object, told: str) -> None:
    (line,) = differences(json.dumps(ANSWER), json.dumps(real))
    assert line.startswith(told)


def test_a_line_more_or_less_is_told() -> None:
    assert differences("4\n", "4\n5\n") == ["'' is now '5\\n'"]
    assert differences("4\n{}\n", "4\n") == ["'{}' is now ''"]


def test_other_words_have_the_same_shape() -> None:
    other = ANSWER | {"n": 3.5, "choices": [{"text": "", "score": 1}, {"text": "more", "score": None}]}
    assert shape(f"{json.dumps(other)}\n5\n") == shape(f"{json.dumps(ANSWER)}\n4\n")
    assert shape(json.dumps(ANSWER | {"n": "2"})) != shape(json.dumps(ANSWER)) != shape(json.dumps({"n": 2}))
