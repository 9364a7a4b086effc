"""Looks up what the locks pin in PyPI's database of advisories, by pip-audit: `make audit`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.install import LOCKS

PIP_AUDIT = "pip-audit==2.10.1"
LOOKED_UP = ("cpu-train-dev", "gpu-train-dev", "router", "build")
"""The others hold nothing else, but for the CPU build of torch, whose release the locks for GPUs pin too."""
NOT_ASKED = "nothing is known, as the database of advisories or pip-audit itself cannot be reached from here"


class NotAskedError(Exception):
    """The message is the last that was said."""


def main() -> int:
    """0 where no advisory is open, 1 where one is, 2 where nobody could tell."""
    try:
        packages = [package for name in LOOKED_UP for package in looked_up(report(LOCKS / f"{name}.txt"))]
    except NotAskedError as error:
        print(f"audit: {NOT_ASKED}: {error}", file=sys.stderr)
        return 2
    found = sorted({line for package in packages for line in advisories(package)})
    known = {(package["name"], package["version"]) for package in packages}
    print("\n".join([*found, f"audit: {len(found)} open advisories on {len(known)} packages"]))
    return int(bool(found))


def report(lock: Path) -> dict[str, Any]:
    """By pip-audit, which uv brings in an environment of its own; it ends with 1 whether it found some or failed."""
    uvx = Path(sys.executable).with_name("uvx")
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    with TemporaryDirectory() as folder:
        out = Path(folder, "report.json")
        command = [str(uvx), "--quiet", PIP_AUDIT, *options, "--output", str(out), "--requirement", str(lock)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.exists():
            raise NotAskedError(last_line(told.stderr))
        read: dict[str, Any] = json.loads(out.read_text())
    return read


def looked_up(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A mirror without the database says of every package that there is none: pip-audit takes that for a success."""
    packages: list[dict[str, Any]] = report["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    if packages and not known:
        raise NotAskedError(packages[0]["skip_reason"])
    return known


def advisories(package: dict[str, Any]) -> Iterator[str]:
    for each in package["vulns"]:
        mended = " or ".join(each["fix_versions"]) or "no release yet"
        yield f"{package['name']} {package['version']}: {each['id']}, mended by {mended}"


def last_line(text: str) -> str:
    return (text.strip() or "no message").splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
