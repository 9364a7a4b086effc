"""A fine-tuning so small that a tiny model learns it by heart: one question about two pictures of one colour each."""

import json
import os
import warnings
from pathlib import Path
from unittest.mock import patch

import yaml
from PIL import Image

from swires.stages import Stage
from tests.training import tiny
from training.__main__ import main

QUESTION = "How many objects are left?"
PICTURES = {color: Image.new("RGB", (64, 64), color) for color in ("red", "blue")}
STAGES = {
    color: {
        Stage.SUMMARY: f"I count the {color} circles.",
        Stage.CAPTION: f"The image shows a large {color} square.",
        Stage.REASONING: f"All are {color}, so {number} are left.",
        Stage.CONCLUSION: number,
    }
    for color, number in (("red", "3"), ("blue", "5"))
}


def transcript(color: str, last: Stage = Stage.CONCLUSION) -> str:
    told = ((stage, text) for stage, text in STAGES[color].items() if stage <= last)
    return "".join(f"{stage.opening}{text}{stage.closing}" for stage, text in told)


def learn(base: Path, run: Path, *overrides: str, steps: int) -> Path:
    """Fine-tune `base` through the command into the folder `run`, which is returned."""
    config = _write_task(run.with_name(f"{run.name} task"))
    command(
        "sft",
        "--config",
        str(config),
        f"model.name={base}",
        f"train.output_dir={run}",
        f"train.max_steps={steps}",
        *overrides,
    )
    return run


def exported(family: str, folder: Path, *, steps: int) -> Path:
    """A checkpoint of the family, fine-tuned and written as a folder to serve, which is returned."""
    tags = "text" if family == "mllama" else "special"
    base = tiny.write(family, folder / "base")
    run = learn(base, folder / "run", f"model.tags={tags}", steps=steps)
    if family == "llava":  # and as little again by adapters
        run = learn(run, folder / "adapted", "model.lora={r: 4, lora_alpha: 8}", steps=2)
    command("export", "--model", str(run), "--out", str(folder / "exported"), "--verifier")
    return folder / "exported"


def command(*arguments: str) -> None:
    """`python -m training` in this process, which has what takes seconds to import."""
    with (
        patch("sys.argv", ["training", *arguments]),
        patch.dict(os.environ),  # which accelerate writes to
        warnings.catch_warnings(action="ignore"),
    ):
        main()


def _write_task(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for color, picture in PICTURES.items():
        picture.save(folder / f"{color}.png")
    (folder / "train.jsonl").write_text("".join(json.dumps(_record(color)) + "\n" for color in PICTURES))
    config = {
        "model": {"name": "", "tags": "special"},
        "data": {"train": str(folder / "train.jsonl"), "images": str(folder), "max_tokens": 512},
        "train": {
            "output_dir": "",
            "per_device_train_batch_size": len(PICTURES),
            "learning_rate": 5e-3,
            "lr_scheduler_type": "linear",
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True,
        },
    }
    (folder / "sft.yaml").write_text(yaml.safe_dump(config))
    return folder / "sft.yaml"


def _record(color: str) -> dict[str, object]:
    said = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": transcript(color)}]
    return {"id": color, "image": f"{color}.png", "conversations": said}
