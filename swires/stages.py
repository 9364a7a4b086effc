"""The four stages of a LLaVA-CoT answer and the tags that mark them.

Training and serving share this table: the tags that are trained are the tags that are parsed.
"""

from enum import IntEnum


class Stage(IntEnum):
    """A stage of the answer (LLaVA-CoT, arXiv 2411.10440, section 3.1); earlier stages compare as less."""

    SUMMARY = 0
    CAPTION = 1
    REASONING = 2
    CONCLUSION = 3

    @property
    def opening(self) -> str:
        return f"<{self.name}>"

    @property
    def closing(self) -> str:
        return f"</{self.name}>"


TAGS = tuple(tag for stage in Stage for tag in (stage.opening, stage.closing))
