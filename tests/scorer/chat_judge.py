"""A judge behind a chat API, for tests: it reads the answers out of what it is asked."""

import re
from collections.abc import Callable

from tests.scorer.loopback import Json, ok

ANSWERS = re.compile(r"<answer_1>\n(.*)\n</answer_1>\n\n<answer_2>\n(.*)\n</answer_2>", re.DOTALL)


def answers(body: Json) -> tuple[str, str]:
    (message,) = body["messages"]
    found = ANSWERS.search(message["content"][-1]["text"])
    assert found is not None
    return found[1], found[2]


def replying(verdict: Callable[[str, str], str]) -> Callable[[Json], bytes]:
    """`verdict` is told the two answers in the order in which they are shown."""
    return lambda body: ok({"choices": [{"message": {"role": "assistant", "content": verdict(*answers(body))}}]})


def longer(first: str, second: str) -> str:
    return f"Both are fine.\n\n**Verdict: {1 if len(first) > len(second) else 2}**"
