"""The examples for SLURM and Kubernetes start on each node what they should, and no cluster is needed to see it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "deploy" / "training"
KUBERNETES = EXAMPLES / "kubernetes" / "sft.yaml"
TOLD = ["sft", "--config", "training/configs/qwen2_5_vl_7b.yaml", "data.train=with a space.jsonl"]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins: accelerate writes down its arguments, srun runs a command as two nodes would, one after the other."""
    stands_in = {
        "accelerate": f'printf "%s\\0" "$@" >> {tmp_path}/told; printf "\\n" >> {tmp_path}/told',
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'shift; for node in 0 1; do SLURM_NODEID=$node "$@"; done',
    }
    for name, does in stands_in.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "told"


def test_slurm_starts_the_same_run_on_each_node(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node-[a-b]")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "8")
    subprocess.run(["bash", EXAMPLES / "slurm" / "sft.sbatch", *TOLD[1:]], check=True)
    _are_two_nodes(commands, first="node-a", told=TOLD)


def test_kubernetes_starts_the_same_run_on_each_node(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, job = _kubernetes()
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    for index in range(job["spec"]["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        subprocess.run([*container["command"], *container["args"]], check=True)
    name = job["metadata"]["name"]
    assert pod["subdomain"] == service["metadata"]["name"]
    _are_two_nodes(commands, first=f"{name}-0.{pod['subdomain']}", told=TOLD[:3])


def test_the_kubernetes_example_counts_nodes_and_gpus_alike_everywhere() -> None:
    _, job = _kubernetes()
    [container] = job["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert int(told["NODES"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert told["GPUS"] == container["resources"]["limits"]["nvidia.com/gpu"]


def test_kubernetes_accepts_the_example() -> None:
    for resource in _kubernetes():
        kubernetes_validate.validate(resource, "1.31", strict=True)


def _kubernetes() -> tuple[dict[str, Any], dict[str, Any]]:
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    return service, job


def _are_two_nodes(commands: Path, *, first: str, told: list[str]) -> None:
    lines = [line.split("\0")[:-1] for line in commands.read_text().splitlines()]
    assert [line[0] for line in lines] == ["launch", "launch"]
    for rank, line in enumerate(lines):
        launch = launch_command_parser().parse_args(line[1:])
        assert (ROOT / launch.config_file).is_file()
        assert (launch.num_machines, launch.num_processes, launch.machine_rank) == (2, 16, rank)
        assert launch.main_process_ip == first
        assert launch.module
        assert [launch.training_script, *launch.training_script_args][: len(told) + 1] == ["training", *told]
