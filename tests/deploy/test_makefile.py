import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def planned(venv: Path, *arguments: str, path: str = os.environ["PATH"]) -> str:
    """What make would run."""
    environment = {"PATH": path, "HOME": os.environ["HOME"]}
    command = ["make", "--dry-run", "--no-print-directory", f"VENV={venv}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["test", "check", "demo-checkpoint", "suites-test"])
def test_a_fresh_machine_installs_everything(tmp_path: Path, target: str) -> None:
    assert f"deploy/install.py {tmp_path} cpu train dev\n" in planned(tmp_path, target, "DEVICE=cpu")


def test_serving_installs_the_engine_alone(tmp_path: Path) -> None:
    assert f"deploy/install.py {tmp_path} cpu\n" in planned(tmp_path, "serve", "DEVICE=cpu")


def test_a_second_run_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / ".installed-cpu-serving").touch()
    assert planned(tmp_path, "serve", "DEVICE=cpu") == (
        f"{tmp_path}/bin/swires serve --model training/checkpoints/demo --host 127.0.0.1 --port 8000\n"
    )


def test_lmms_eval_is_installed_apart(tmp_path: Path) -> None:
    assert "-m deploy.suites.install fresh\n" in planned(tmp_path, "suites", "SUITES=fresh")


def test_the_address_is_a_variable(tmp_path: Path) -> None:
    assert "--host 0.0.0.0 --port 9000\n" in planned(tmp_path, "serve", "HOST=0.0.0.0", "PORT=9000")


@pytest.mark.parametrize(("status", "device"), [(0, "gpu"), (1, "cpu")])
def test_a_gpu_is_found_by_its_driver(tmp_path: Path, status: int, device: str) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nexit {status}\n")
    driver.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert f"deploy/install.py {tmp_path} {device}\n" in planned(tmp_path, "serve", path=path)


def test_help_names_every_command(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    text = subprocess.run(
        ["make", "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    (phony,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert [f"make {name}" for name in phony.split()[1:] if f"  make {name} " not in text] == []
