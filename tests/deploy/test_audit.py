import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy import audit

OPEN = {"id": "PYSEC-1", "fix_versions": ["2.0", "1.5"]}
PACKAGES: list[dict[str, Any]] = [
    {"name": "probe", "version": "1.0", "vulns": [OPEN]},
    {"name": "other", "version": "1.0", "vulns": []},
    {"name": "skipped", "skip_reason": "not on PyPI"},
]


def answering(monkeypatch: pytest.MonkeyPatch, packages: list[dict[str, Any]] | None) -> None:
    """pip-audit tells of these packages for each lock, or fails."""

    def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        if packages is not None:
            Path(command[command.index("--output") + 1]).write_text(json.dumps({"dependencies": packages}))
        return subprocess.CompletedProcess(command, 1, "", "INFO: begun\nERROR: cannot connect\n")

    monkeypatch.setattr("subprocess.run", run)


def test_open_advisories_are_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, PACKAGES)
    assert audit.main() == 1
    assert (
        capsys.readouterr().out == "probe 1.0: PYSEC-1, mended by 2.0 or 1.5\naudit: 1 open advisories on 2 packages\n"
    )


def test_none_is_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, PACKAGES[1:])
    assert audit.main() == 0


def test_a_mirror_that_knows_no_package_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, PACKAGES[2:])
    assert audit.main() == 2
    assert capsys.readouterr().err == f"audit: {audit.NOT_ASKED}: not on PyPI\n"


def test_no_database_is_no_success(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, None)
    assert audit.main() == 2
    assert capsys.readouterr().err == f"audit: {audit.NOT_ASKED}: ERROR: cannot connect\n"
