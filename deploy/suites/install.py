"""Makes the environment of lmms-eval, apart from the server's: `python3 -m deploy.suites.install .venv-suites`.

Standard library only. lmms-eval asks for transformers, wandb and OpenCV in versions of its own.
"""

import argparse
import sys
from pathlib import Path

from deploy.install import (
    TORCH_FOR_CPU,
    SetupError,
    check_python,
    make_environment,
    mend_linked_to_torch,
    pip,
    torch_sources,
)

LMMS_EVAL = ("lmms-eval==0.7.3", "filelock<4", "Levenshtein")
"""The release that the configs were written for, and what it imports but does not ask for: a module that filelock 4 has
no longer, and for MathVista the distance of two words."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make an environment with lmms-eval.")
    parser.add_argument("directory", type=Path, help="where the environment is made")
    arguments = parser.parse_args()
    try:
        install(arguments.directory)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def install(directory: Path) -> None:
    """With the CPU build of torch, the smaller one: here lmms-eval only asks a server."""
    check_python(sys.version_info[:2])
    python = make_environment(directory)
    pip(python, "install", *torch_sources(python), f"torch=={TORCH_FOR_CPU}", *LMMS_EVAL)
    mend_linked_to_torch(python)


if __name__ == "__main__":
    sys.exit(main())
