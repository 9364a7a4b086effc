"""Runs of several processes, and runs that are killed, through `accelerate launch` and the configs that are shipped."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from tests.training import tiny
from training.config import CONFIGS
from training.data.convert import write_records
from training.tasks.scenes import scenes

ACCELERATE = CONFIGS / "accelerate"
LAUNCH = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch")
PROCESSES = {"one_process": "1", "fsdp2": "2"}
WEIGHTS = "model.safetensors"
STEPS, DIES_AT = 6, 5  # saved are steps 2 and 4: the second run goes on from 4
RUN = {
    "model": {"tags": "special", "dtype": "float32"},
    "data": {"max_tokens": tiny.CONTEXT},
    "train": {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
    },
    "evaluate": {"samples": 0},
}

Words = tuple[str | Path, ...]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Run the launcher's command line on a tiny model, in folder `out`; `dies_at` kills its processes at that step."""
    folder = tmp_path_factory.mktemp("scale")
    model = tiny.write("qwen2_5_vl", folder / "model")
    records = write_records("scenes", itertools.islice(scenes(0), 4 * STEPS), folder)
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(RUN))
    told = [f"model.name={model}", f"data.train={records}", f"data.images={folder}"]

    def run(out: Path, accelerate: str, *overrides: str, dies_at: int = -1) -> subprocess.CompletedProcess[str]:
        launch: Words = (
            *LAUNCH,
            "--config_file",
            ACCELERATE / f"{accelerate}.yaml",
            "--num_processes",
            PROCESSES[accelerate],
        )
        command: Words = ("-m", "tests.training.on_cpu", "sft", "--config", config, *told, f"train.output_dir={out}")
        return subprocess.run(
            (*launch, *command, *overrides),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "DIES_AT_STEP": str(dies_at)},
        )

    return run


@pytest.fixture(scope="module")
def unbroken(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that the others are held against."""
    out = tmp_path_factory.mktemp("unbroken")
    _succeed(train(out, "one_process"))
    return out


def test_a_killed_run_goes_on_to_the_same_weights(train: Train, unbroken: Path, tmp_path: Path) -> None:
    assert "SIGKILL" in train(tmp_path, "one_process", dies_at=DIES_AT).stderr
    assert "Goes on from" in _succeed(train(tmp_path, "one_process")).stderr
    assert _losses(tmp_path) == _losses(unbroken)
    assert (tmp_path / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()


def test_two_processes_with_fsdp_reach_the_losses_of_one_also_when_killed(
    train: Train, unbroken: Path, tmp_path: Path
) -> None:
    half = "train.per_device_train_batch_size=2"
    assert "SIGKILL" in train(tmp_path, "fsdp2", half, dies_at=DIES_AT).stderr
    assert "Goes on from" in _succeed(train(tmp_path, "fsdp2", half)).stderr
    assert _losses(tmp_path) == pytest.approx(_losses(unbroken), rel=1e-4)
    ours, theirs = load_file(tmp_path / WEIGHTS), load_file(unbroken / WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


@pytest.mark.slow
def test_two_processes_with_fsdp_run_as_the_configs_have_it(train: Train, unbroken: Path, tmp_path: Path) -> None:
    """In bf16, layers computed twice, a tower frozen, held-out problems answered by both."""
    told = "train.per_device_train_batch_size=2 train.bf16=true train.gradient_checkpointing=true model.frozen=[vision]"
    evaluated = "data.evaluation_share=0.2 train.eval_strategy=steps train.eval_steps=2 evaluate.max_new_tokens=4"
    _succeed(train(tmp_path, "fsdp2", *told.split(), *evaluated.split(), "train.max_steps=2", "evaluate.samples=3"))
    (measured,) = [row for row in _history(tmp_path, 2) if "eval_loss" in row]
    assert measured["eval_loss"] == pytest.approx(_losses(unbroken)[2], rel=0.05)
    assert {"eval_format_valid", "eval_accuracy"} <= measured.keys()
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len({sample["id"] for sample in samples}) == len(samples) == 3
    weights = load_file(tmp_path / WEIGHTS)
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.slow
def test_two_processes_with_fsdp_learn_the_adapters_of_one(train: Train, tmp_path: Path) -> None:
    told = ("model.lora={r: 4, lora_alpha: 8}", "train.max_steps=2")
    _succeed(train(tmp_path / "one", "one_process", *told))
    _succeed(train(tmp_path / "two", "fsdp2", *told, "train.per_device_train_batch_size=2"))
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


@pytest.mark.parametrize(
    ("name", "kind", "nodes", "gpus"),
    [
        ("one_process", DistributedType.NO, 1, 1),
        ("fsdp2", DistributedType.FSDP, 1, 8),
        ("fsdp2_nodes", DistributedType.FSDP, 2, 16),
        ("deepspeed_zero3", DistributedType.DEEPSPEED, 1, 8),
    ],
)
def test_a_config_is_one_that_accelerate_reads(name: str, kind: DistributedType, nodes: int, gpus: int) -> None:
    config = load_config_from_file(str(ACCELERATE / f"{name}.yaml"))
    assert (config.distributed_type, config.num_machines, config.num_processes) == (kind, nodes, gpus)


def test_every_config_is_tested() -> None:
    tested = {"one_process", "fsdp2", "fsdp2_nodes", "deepspeed_zero3"}
    assert {file.stem for file in ACCELERATE.iterdir()} == tested


def _succeed(run: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    assert run.returncode == 0, run.stderr[-3000:]
    return run


def _history(out: Path, step: int) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = json.loads((out / f"checkpoint-{step}" / "trainer_state.json").read_text())[
        "log_history"
    ]
    return log


def _losses(out: Path) -> list[float]:
    losses = [entry["loss"] for entry in _history(out, STEPS) if "loss" in entry]
    assert len(losses) == STEPS
    return losses
