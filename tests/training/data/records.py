"""Records, good and bad, and files of them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from swires.stages import Stage

TEXTS = {
    Stage.SUMMARY: "Count them.",
    Stage.CAPTION: "Two dots.",
    Stage.REASONING: "One and one.",
    Stage.CONCLUSION: "2",
}
Command: TypeAlias = Callable[..., None]


def staged(texts: Mapping[Stage, str] = TEXTS, between: str = "\n\n") -> str:
    return between.join(f"{stage.opening} {text} {stage.closing}" for stage, text in texts.items())


def record(*answers: str, **fields: Any) -> dict[str, Any]:
    """A record with these answers, one good one if there are none; `fields` replace its own."""
    said = [
        {"from": speaker, "value": value}
        for answer in answers or (staged(),)
        for speaker, value in (("human", "How many?"), ("gpt", answer))
    ]
    return {"id": "one", "image": "dots/a.png", "conversations": said, **fields}


def encoded(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def write(file: Path, lines: Iterable[object]) -> Path:
    """Bytes as they are, anything else as JSON."""
    file.write_bytes(b"".join(encoded(line) + b"\n" for line in lines))
    return file
