import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("top", ["swires", "server", "training"])
def test_every_folder_with_modules_is_installed(top: str) -> None:
    """setuptools takes packages with an `__init__.py` only."""
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    assert folders
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_pages_files_are_installed_with_the_server(tmp_path: Path) -> None:
    """A wheel would hold what setuptools builds."""
    setup = [sys.executable, "-c", "from setuptools import setup; setup()", "--quiet"]
    (metadata := tmp_path / "metadata").mkdir()
    commands = ["egg_info", "--egg-base", str(metadata), "build", "--build-base", str(tmp_path)]
    subprocess.run([*setup, *commands], cwd=ROOT, check=True, capture_output=True)
    web = ROOT / "server" / "web"
    built = {path.relative_to(tmp_path / "lib" / "server" / "web") for path in tmp_path.glob("lib/server/web/**/*")}
    assert built == {path.relative_to(web) for path in web.rglob("*")}
    assert (tmp_path / "lib" / "server" / "examples.json").exists()
