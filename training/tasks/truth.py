"""Whether a stage says what is true."""

import re

from swires.stages import Stage
from training.tasks.example import Example


def is_true(example: Example, stage: Stage, text: str) -> bool:
    """SUMMARY and CAPTION to the word, REASONING and CONCLUSION by their result. `text` is without tags."""
    if text == example.stages.get(stage):
        return True
    return stage is Stage.REASONING and _result(text) == example.answer


def _result(reasoning: str) -> str:
    """How many the last line of a scene's reasoning says are left."""
    found = re.search(r"(\d+) stay", reasoning.rpartition("\n")[2])
    return found[1] if found else ""
