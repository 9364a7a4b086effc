"""A verifier so small that a tiny model learns it by heart: red is right, whatever the picture."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from swires.stages import Stage
from tests.server.client import image_url
from tests.training import tiny
from training.config import Model
from training.model import load_model
from training.verifier import jsonl
from training.verifier.label import Judged, Labelled
from training.verifier.problem import Problem

QUESTION = "Which color is it?"
SIZES = {"red": (64, 64), "blue": (48, 32)}
SUMMARY = f"{Stage.SUMMARY.opening}I look at it.{Stage.SUMMARY.closing}"


def caption(color: str) -> str:
    return f"{Stage.CAPTION.opening}All of the picture is {color}.{Stage.CAPTION.closing}"


@cache
def problem(color: str) -> Problem:
    return Problem(image=image_url(Image.new("RGB", SIZES[color], color)), question=QUESTION, answer="red")


def labelled() -> list[Labelled]:
    return [Labelled(problem=problem(color), judged=tuple(map(_judged, SIZES))) for color in SIZES]


def _judged(said: str) -> Judged:
    right = said == "red"
    return Judged(stage=Stage.CAPTION, texts=(SUMMARY, caption(said)), right=right, share=right, rollouts=4)


def staged(family: str, folder: Path) -> Path:
    """A tiny checkpoint that knows the tags as tokens."""
    loaded = load_model(Model(name=str(tiny.write(family, folder)), tags="special"))
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return folder


def write_task(folder: Path, model: Path, **train: Any) -> Path:
    """The labels and the config of a run into `folder`; returns the config."""
    folder.mkdir(parents=True, exist_ok=True)
    jsonl.write(folder / "labels.jsonl", labelled())
    said = [
        {"from": "human", "value": QUESTION},
        {"from": "gpt", "value": "".join(f"{stage.opening}red{stage.closing}" for stage in Stage)},
    ]
    records = [{"id": color, "image": f"{color}.png", "conversations": said} for color in SIZES]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for color, size in SIZES.items():
        Image.new("RGB", size, color).save(folder / f"{color}.png")
    config = {
        "model": {"name": str(model), "tags": "special"},
        "labels": str(folder / "labels.jsonl"),
        "train": {
            "output_dir": str(folder / "run"),
            "per_device_train_batch_size": 4,
            "learning_rate": 2e-3,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True,
            **train,
        },
    }
    (folder / "verifier.yaml").write_text(yaml.safe_dump(config))
    return folder / "verifier.yaml"


def answers(folder: Path) -> list[str]:
    """Overrides with which a run learns whole answers too."""
    return [
        f"answers.records={folder / 'records.jsonl'}",
        f"answers.images={folder}",
        "answers.max_tokens=512",
    ]
