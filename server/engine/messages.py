"""The messages of a chat, as every engine takes them."""

from collections.abc import Callable, Mapping
from typing import Any

from server.engine.plain_text import PlainText
from swires.errors import InvalidPlan


def plain(message: Mapping[str, Any], plain_text: PlainText, image: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """`message` without special tokens; each of its parts `{"type": "image"}` is what `image` then gives."""
    content = message["content"]
    if isinstance(content, str):
        return {"role": message["role"], "content": plain_text.broken(content)}
    parts = [
        image() if part["type"] == "image" else {"type": "text", "text": plain_text.broken(part["text"])}
        for part in content
    ]
    return {"role": message["role"], "content": parts}


def check_length(num_tokens: int, max_model_len: int) -> None:
    """Raises InvalidPlan where the context has no room behind the messages."""
    if num_tokens >= max_model_len:
        raise InvalidPlan(
            f"the messages come to {num_tokens} tokens, the model takes {max_model_len - 1}", field="messages"
        )
