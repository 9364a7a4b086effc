from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("top", ["swires", "server", "training"])
def test_every_folder_with_modules_is_installed(top: str) -> None:
    """setuptools takes packages with an `__init__.py` only."""
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    assert folders
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
