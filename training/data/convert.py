"""The demo tasks as files in LLaVA-CoT-100k's shape."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from swires.stages import Stage
from training.data.record import SPEAKERS
from training.tasks.example import Example


def write_records(task: str, examples: Iterable[Example], out: Path, total: int | None = None) -> Path:
    """Writes OUT/TASK.jsonl and its pictures into OUT/TASK/, each of them once; returns the file.

    Paths in it are relative to OUT. Examples that lack a stage are left out.
    """
    (out / task).mkdir(parents=True, exist_ok=True)
    file = out / f"{task}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for number, example in enumerate(tqdm(examples, desc=task, total=total, unit="record", delay=2)):
            if len(example.stages) == len(Stage):
                said = zip(SPEAKERS, (example.question, example.text), strict=True)
                record = {
                    "id": f"{task}-{number}",
                    "image": _picture(task, example, out),
                    "conversations": [{"from": speaker, "value": value} for speaker, value in said],
                }
                lines.write(json.dumps(record) + "\n")
    return file


def _picture(task: str, example: Example, out: Path) -> str:
    """Its name is made of its pixels, so that one picture of many questions is one file."""
    name = f"{task}/{hashlib.sha256(example.image.tobytes()).hexdigest()[:16]}.png"
    if not (out / name).exists():
        draft = out / f"{name}.draft"
        example.image.save(draft, "PNG")
        draft.replace(out / name)
    return name
