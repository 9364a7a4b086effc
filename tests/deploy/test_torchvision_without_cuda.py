"""On the real torch, with a small torchvision that behaves as the real one does in the place that matters."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
REGISTER = "import torch.library\n@torch.library.register_fake('torchvision::nms')\ndef nms(d, s, t): return s"
COMPILED = (
    "import torch.library\nlibrary = torch.library.Library('torchvision', 'DEF')\n"
    "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
)


@pytest.fixture
def torchvision(tmp_path: Path) -> Path:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from . import extension\nfrom torchvision import _meta_registrations")
    (package / "extension.py").write_text("def _has_ops(): return False")
    (package / "_meta_registrations.py").write_text(REGISTER)
    return package


def run(torchvision: Path, code: str) -> str:
    """What `code` prints, and its last error line; `-S` keeps away a `.pth` file that this environment may have."""
    path = os.pathsep.join(map(str, (torchvision.parent, DEPLOY, sysconfig.get_path("purelib"))))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    return done.stdout + "".join(done.stderr.splitlines()[-1:] if done.returncode else [])


def test_without_it_the_import_fails(torchvision: Path) -> None:
    assert run(torchvision, "import torchvision") == "RuntimeError: operator torchvision::nms does not exist"


def test_with_it_the_import_succeeds(torchvision: Path) -> None:
    code = "import torchvision_without_cuda, torchvision, torch; print(torch.ops.torchvision.nms)"
    assert run(torchvision, code) == "torchvision.nms\n"


def test_compiled_operators_stay_what_they_are(torchvision: Path) -> None:
    (torchvision / "extension.py").write_text(f"{COMPILED}def _has_ops(): return True")
    code = (
        "import torchvision_without_cuda, torchvision, torch; print(torch.ops.torchvision.nms)\n"
        "print(torchvision_without_cuda._declared, hasattr(torch.ops.torchvision, 'qnms'))"
    )
    assert run(torchvision, code) == "torchvision.nms\n[] False\n"


def test_an_interpreter_starts_without_torch(torchvision: Path) -> None:
    assert run(torchvision, "import torchvision_without_cuda, sys; print('torch' in sys.modules)") == "False\n"
