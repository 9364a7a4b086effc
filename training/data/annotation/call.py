"""What is asked of a teacher and what it replies."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Purpose: TypeAlias = Literal["stages", "judgement"]


@dataclass(frozen=True, slots=True)
class Call:
    """One paid request; `image` is the path of the picture that goes with it, relative to the folder of images."""

    purpose: Purpose
    record: str
    turn: int
    attempt: int
    prompt: str
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that has been paid. Token counts are as the teacher's `usage` tells them, None where it does not."""

    text: str
    finish_reason: str | None = None
    refusal: str | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
