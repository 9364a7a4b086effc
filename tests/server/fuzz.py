"""schemathesis over the OpenAPI document of a running server: `python -m tests.server.fuzz http://127.0.0.1:8000`."""

import argparse
import subprocess
import sys
from pathlib import Path

import uv

RELEASE = "schemathesis==4.32.5"
CONFIG = Path(__file__).with_name("schemathesis.toml")


def command(url: str, *, examples: int, seed: int) -> list[str]:
    """Runs all checks on data that fit the document and data that do not, up to `examples` of each route at random."""
    tool = [uv.find_uv_bin(), "tool", "run", "--quiet", "--python", sys.executable, "--from", RELEASE]
    options = [f"--max-examples={examples}", f"--seed={seed}", "--phases=examples,coverage,fuzzing", "--checks=all"]
    return [*tool, "st", "--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--continue-on-failure", *options]


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold a running server to what its OpenAPI document says.")
    parser.add_argument("url", help="the server")
    parser.add_argument("--examples", type=int, default=100, help="requests of each route at random (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is made at random (%(default)s)")
    arguments = parser.parse_args()
    return subprocess.run(command(arguments.url, examples=arguments.examples, seed=arguments.seed)).returncode


if __name__ == "__main__":
    sys.exit(main())
