"""What both images promise, read off the Dockerfile; `make test-image` runs one of them."""

import re
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from tests.deploy.image import stages
from tests.deploy.image.stages import Config

ROOT = Path(__file__).parents[3]
SENT_ANYWAY = {Path("Dockerfile"), Path(".dockerignore")}
STAGES = stages.read(ROOT / "Dockerfile", {})
IMAGES = ("cpu", "gpu")
SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash", "CMD-SHELL")
COMPILERS = re.compile(r"(?<!\S)(gcc|g\+\+|build-essential|clang|cmake|rustc|cargo)(?!\S)")


def config(name: str, **given: str) -> Config:
    return stages.config(STAGES, name, given)


def test_bases_are_those_that_can_be_pinned_by_digest() -> None:
    pinned = {name: f"registry/{name.lower()}@sha256:{'0' * 64}" for name in ("PYTHON_IMAGE", "VLLM_IMAGE")}
    bases = {stage.base for stage in stages.read(ROOT / "Dockerfile", pinned).values()}
    assert bases - set(STAGES) == set(pinned.values())


def test_without_a_digest_bases_have_a_release_as_their_tag() -> None:
    (vllm,) = re.findall(r'"vllm==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert STAGES["gpu"].base == f"vllm/vllm-openai:v{vllm}"
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", STAGES["cpu"].base)


@pytest.mark.parametrize("name", IMAGES)
def test_a_container_is_unprivileged_and_is_told_to_stop(name: str) -> None:
    told = config(name)
    assert told.user == "2000:0"
    assert told.stop_signal == "SIGTERM"


@pytest.mark.parametrize("name", IMAGES)
def test_no_shell_stands_between(name: str) -> None:
    steps = [step for step in STAGES[name].steps if step.name in ("entrypoint", "cmd", "healthcheck")]
    assert [step.exec_form for step in steps] == [True] * 3
    assert [step.words for step in steps if set(step.words) & set(SHELLS)] == []


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_written_goes_into_a_volume(name: str) -> None:
    told = config(name)
    caches = [value for variable, value in told.env.items() if re.search("CACHE|CONFIG_HOME|TRITON", variable)]
    assert len(caches) >= 4
    assert [path for path in caches if not path.startswith("/home/vllm/.cache")] == []
    assert set(told.volumes) == {"/home/vllm/.cache", "/tmp"}


@pytest.mark.parametrize("name", IMAGES)
def test_the_last_stage_installs_no_compiler(name: str) -> None:
    assert [step.words for step in STAGES[name].steps if step.name == "run" and COMPILERS.search(step.words[0])] == []


@pytest.mark.parametrize("name", IMAGES)
def test_labels_tell_what_was_built_from_what(name: str) -> None:
    labels = config(name, VERSION="1.2.3", REVISION="0123abc").labels
    told = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert (told["version"], told["revision"]) == ("1.2.3", "0123abc")
    assert told["base.name"] == STAGES[name].base


def test_both_are_run_alike() -> None:
    cpu, gpu = (config(name) for name in IMAGES)
    assert cpu.entrypoint == gpu.entrypoint
    assert cpu.command == gpu.command
    assert cpu.healthcheck == gpu.healthcheck
    assert set(gpu.env.items()) ^ set(cpu.env.items()) == {
        ("CUDA_CACHE_PATH", "/home/vllm/.cache/nv"),
        ("TORCH_COMPILE_DISABLE", "1"),
    }


def test_a_builder_is_sent_what_it_copies_and_nothing_else() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    sent = [path for path in map(Path, exclude_paths(str(ROOT), patterns)) if (ROOT / path).is_file()]
    sent = [path for path in sent if path not in SENT_ANYWAY]
    steps = [step for stage in STAGES.values() for step in stage.steps if step.name == "copy" and not step.flags]
    copied = {Path(source) for step in steps for source in step.words[:-1]}
    under = {path: [source for source in copied if path.is_relative_to(source)] for path in sent}
    assert [path for path, sources in under.items() if not sources] == []
    assert copied - {source for sources in under.values() for source in sources} == set()
