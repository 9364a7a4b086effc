"""Makes the environment of the rivals, apart from the server's: `python3 -m deploy.bench.install .venv-bench`.

Standard library only.
"""

import argparse
import sys
from pathlib import Path

from deploy.install import SetupError, check_python, make_environment, pip

RIVALS = ("its-hub[lm]==1.2.0",)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make an environment with what is compared.")
    parser.add_argument("directory", type=Path, help="where the environment is made")
    arguments = parser.parse_args()
    try:
        check_python(sys.version_info[:2])
        pip(make_environment(arguments.directory), "install", *RIVALS)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
