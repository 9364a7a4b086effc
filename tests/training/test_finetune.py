import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tests.training import tiny
from tests.training.by_heart import command
from training.config import Run, load
from training.data.convert import write_records
from training.finetune import last_checkpoint
from training.tasks.scenes import scenes

STEPS_PER_EPOCH = 4
LORA = "model.lora={r: 4, lora_alpha: 8, lora_dropout: 0.1}"

Sft = Callable[..., Path]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose output embeddings are its own and whose weights are saved by other names than it has; eight
    scenes to train on and two held out; a config."""
    folder = tmp_path_factory.mktemp("material")
    model = tiny.write("qwen2_5_vl", folder / "model")
    records = write_records("scenes", itertools.islice(scenes(0), 2 * STEPS_PER_EPOCH + 2), folder)
    config = {
        "model": {"name": str(model), "tags": "special"},
        "data": {
            "train": str(records),
            "images": str(folder),
            "evaluation_share": 0.2,
            "max_tokens": tiny.CONTEXT,
        },
        "train": {
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "train_sampling_strategy": "group_by_length",
            "logging_steps": 1,
            "save_steps": 2,
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True,
        },
        "evaluate": {"samples": 2, "max_new_tokens": 4},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def sft(material: Path, tmp_path: Path) -> Sft:
    def run(*overrides: str, out: Path = tmp_path / "run") -> Path:
        command("sft", "--config", str(material / "run.yaml"), f"train.output_dir={out}", *overrides)
        return out

    return run


def history(run: Path) -> list[dict[str, Any]]:
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    log: list[dict[str, Any]] = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return log


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in history(run) if "loss" in row]


@pytest.mark.parametrize("lora", [(), (LORA,)], ids=["full", "lora"])
@pytest.mark.parametrize("order", ["group_by_length", "random"])
def test_a_run_goes_on_to_the_same_losses(sft: Sft, lora: tuple[str, ...], order: str, tmp_path: Path) -> None:
    """In the middle of the second epoch, from the last checkpoint that is whole."""
    told = ("train.max_steps=8", f"train.train_sampling_strategy={order}", *lora)
    straight = sft(*told)
    stopped = shutil.copytree(straight, tmp_path / "stopped")
    (stopped / "checkpoint-8" / "trainer_state.json").unlink()
    assert last_checkpoint(stopped) == stopped / "checkpoint-6"
    sft(*told, out=stopped)
    assert losses(stopped) == losses(straight)
    assert len(set(losses(straight))) == 8
    weights = "adapter_model.safetensors" if lora else "model.safetensors"
    theirs = load_file(straight / weights)
    assert all(torch.equal(weight, theirs[name]) for name, weight in load_file(stopped / weights).items())


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, state in ((2, "{}"), (10, "{}"), (12, '{"epoch": '), (14, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_evaluations_show_what_is_answered(sft: Sft) -> None:
    run = sft("train.max_steps=2", "train.eval_strategy=steps", "train.eval_steps=1", "train.report_to=[tensorboard]")
    measured = [row for row in history(run) if "eval_loss" in row]
    assert [(row["step"], row["eval_format_valid"], row["eval_accuracy"]) for row in measured] == [(1, 0, 0), (2, 0, 0)]
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [1, 1, 2, 2]
    assert {len(sample["expected"]) for sample in samples} == {1}
    events = EventAccumulator(str(next(run.glob("runs/*")))).Reload()
    assert {"train/loss", "eval/loss", "eval/format_valid", "eval/accuracy"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Tensors("samples/text_summary")] == [1, 2]
    assert samples[0]["question"] in events.Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()


def test_the_best_checkpoint_is_the_one_that_is_kept(sft: Sft) -> None:
    """Also of a model whose weights are saved by other names."""
    run = sft(
        "train.max_steps=4",
        "train.learning_rate=0.5",
        "train.eval_strategy=steps",
        "train.eval_steps=2",
        "train.load_best_model_at_end=true",
        "evaluate.samples=0",
    )
    found = [row["eval_loss"] for row in history(run) if "eval_loss" in row]
    best, other = ("checkpoint-2", "checkpoint-4") if found[0] < found[1] else ("checkpoint-4", "checkpoint-2")
    kept = load_file(run / "model.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in load_file(run / best / "model.safetensors").items())
    assert not torch.equal(kept["lm_head.weight"], load_file(run / other / "model.safetensors")["lm_head.weight"])


def test_adapters_come_with_the_rows_of_new_tags(sft: Sft, tmp_path: Path) -> None:
    saved = load_file(sft(LORA, "train.max_steps=2") / "adapter_model.safetensors")
    rows = {name: weight for name, weight in saved.items() if "token" in name and weight.shape == (9, tiny.HIDDEN)}
    assert {name.split(".")[-3] for name in rows} == {"embed_tokens", "lm_head"}
    untrained = sft(LORA, "train.max_steps=1", "train.learning_rate=0", out=tmp_path / "untrained")
    first = load_file(untrained / "adapter_model.safetensors")
    assert all(not torch.equal(weight, first[name]) for name, weight in rows.items())


def test_the_learning_rate_falls_after_each_epoch(sft: Sft) -> None:
    run = sft("gamma=0.5", "train.num_train_epochs=3", "train.gradient_accumulation_steps=2")
    rates = [row["learning_rate"] for row in history(run) if "loss" in row]
    assert rates == pytest.approx([1e-3] * 2 + [5e-4] * 2 + [2.5e-4] * 2)


def test_frozen_towers_stay_as_they_were(sft: Sft, material: Path) -> None:
    run = sft("model.frozen=[vision, projector]", "train.max_steps=1")
    before, after = (load_file(folder / "model.safetensors") for folder in (material / "model", run))
    changed = {
        name for name in before if before[name].shape != after[name].shape or not before[name].equal(after[name])
    }
    assert changed
    assert not any(name.startswith("visual") for name in changed)
    assert any(name.startswith("visual") for name in before)


def test_the_run_is_noted_as_it_was_told(sft: Sft, material: Path) -> None:
    run = sft("train.max_steps=1", "evaluate.samples=1")
    told = load(Run, material / "run.yaml", (f"train.output_dir={run}", "train.max_steps=1", "evaluate.samples=1"))
    assert load(Run, run / "run.yaml") == told


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "train.eval_strategy=epoch data.evaluation_share=0",
            "sft: train.eval_strategy: asks for evaluations; set data.",
        ),
        ("train.steps=3", "sft: train.steps: trl.SFTConfig has no such field"),
        ("model.name=/nowhere", "sft: model.name: /nowhere: "),
        ("data.images=nowhere", "sft: data.images: nowhere is no folder"),
    ],
)
def test_the_command_fails_in_one_line(
    sft: Sft, capsys: pytest.CaptureFixture[str], override: str, complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        sft(*override.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(complaint)
