"""The examples of a page, run as a reader would in a checkout whose server is at the usual address."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.server.docs.pages import ROOT, Step

USUAL = "127.0.0.1:8000"
LIMIT_S = 120


class ExampleFailed(Exception):
    """The message tells the command and what it printed."""


def checkout(folder: Path) -> Path:
    """A folder that has what the checkout has, and may be written into."""
    for entry in ROOT.iterdir():
        (folder / entry.name).symlink_to(entry)
    return folder


async def run(steps: Sequence[Step], folder: Path, *, address: str) -> list[str]:
    """What each of `steps` prints, one shell for all; raises ExampleFailed for one that fails without telling why."""
    script = "".join(f"{step.command.replace(USUAL, address)}printf '\\0%s\\0' $?\n" for step in steps)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=folder,
        env=_environment(address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
    *told, rest = printed.decode().replace(address, USUAL).split("\0")
    if rest or len(told) != 2 * len(steps):
        raise ExampleFailed(f"the shell ended with: {rest or told}")
    return [_told(*each) for each in zip(steps, told[::2], told[1::2], strict=True)]


def _told(step: Step, output: str, status: str) -> str:
    if status != "0" and not output.startswith("swires: "):
        raise ExampleFailed(f"status {status} of {step.command}{output}")
    return output if not output or output.endswith("\n") else f"{output}\n"


def _environment(address: str) -> dict[str, str]:
    """As it is, but with the commands of this environment first and without the settings of another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWIRES_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "PATH": path, "SWIRES_URL": f"http://{address}", "COLUMNS": "118"}
