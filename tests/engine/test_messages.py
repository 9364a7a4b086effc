from functools import partial

import pytest

from server.engine.messages import check_length, plain
from server.engine.plain_text import BREAK, PlainText
from swires.errors import InvalidPlan

PLAIN_TEXT = PlainText(["<|end|>"])


def test_special_tokens_are_broken_and_images_taken_in_their_order() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "a <|end|>"}, {"type": "image"}]
    images = iter([{"url": "1"}, {"url": "2"}])
    message = plain({"role": "user", "content": parts}, PLAIN_TEXT, partial(next, images))
    assert message == {
        "role": "user",
        "content": [{"url": "1"}, {"type": "text", "text": f"a <{BREAK}|end|>"}, {"url": "2"}],
    }


def test_a_message_may_be_a_text() -> None:
    broken = plain({"role": "system", "content": "<|end|> "}, PLAIN_TEXT, dict)
    assert broken == {"role": "system", "content": f"<{BREAK}|end|> "}


def test_messages_leave_room_for_a_token() -> None:
    check_length(9, 10)
    with pytest.raises(InvalidPlan, match="come to 10 tokens, the model takes 9") as refused:
        check_length(10, 10)
    assert refused.value.field == "messages"
