"""What `make lock` has written is whole, and what the project asks for."""

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import install

EXTRAS = (("cpu",), ("cpu", "train", "dev"), ("gpu",), ("gpu", "train", "dev"), ("router",))
FILES = sorted(install.LOCKS.glob("*.txt"))
PINNED = re.compile(r"^([\w.-]+)==([^ ;\\]+)((?:.*\\\n)*.*)", re.MULTILINE)


def pins(file: Path) -> dict[str, str]:
    """Versions by name."""
    return {canonicalize_name(name): version for name, version, _ in PINNED.findall(file.read_text())}


def asked_for(extras: Sequence[str]) -> list[Requirement]:
    project = tomllib.loads((install.ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("extras", EXTRAS, ids=" ".join)
def test_a_lock_holds_what_the_project_asks_for(extras: tuple[str, ...]) -> None:
    """`make lock` mends what fails here."""
    found = pins(install.LOCKS / f"{'-'.join(extras)}.txt")
    if "cpu" in extras:
        assert "torch" not in found
        found |= pins(install.LOCKS / "torch-cpu.txt")
    missing = [each.name for each in asked_for(extras) if canonicalize_name(each.name) not in found]
    assert missing == []
    assert [str(each) for each in asked_for(extras) if found[canonicalize_name(each.name)] not in each.specifier] == []


def test_the_vllm_image_is_given_the_versions_that_are_locked_for_gpus() -> None:
    beside, gpu = (pins(install.LOCKS / f"{name}.txt") for name in ("beside-vllm", "gpu"))
    assert beside.items() <= gpu.items()
    assert {canonicalize_name(each.name) for each in asked_for(())} <= beside.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_pin_has_hashes_and_no_lock_names_a_source(file: Path) -> None:
    text = file.read_text()
    entries = PINNED.findall(text)
    assert len(entries) == len(re.findall("==[^ ;]+ *(?:;|\\\\$)", text, re.MULTILINE))
    assert [name for name, _, rest in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest)] == []
    assert "://" not in text


def test_the_lock_of_torch_is_of_the_build_that_is_looked_for() -> None:
    assert pins(install.LOCKS / "torch-cpu.txt") == {"torch": install.TORCH_FOR_CPU}


def test_what_the_makefile_installs_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert all(install.lock_of(extras) for extras in EXTRAS)
    assert install.lock_of(("cpu", "train")) is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert install.lock_of(("cpu",)) is None


def test_only_what_has_a_known_hash_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the right name and version, but another content."""
    wheel = tmp_path / "swires_probe-1.0-py3-none-any.whl"
    wheel.write_bytes(b"other")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "build.txt").write_text(f"swires-probe==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(install, "LOCKS", tmp_path / "locks")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(install.SetupError, match="Got "):
        install.install_locked(Path(sys.executable), tmp_path / "unused.txt", cpu=False, sources=())
