"""The table of the clients: each is a script `with_*.py` that uses one as its own documentation does.

A script is given the address of a server, a model, a question and an image as a data URL. It prints, as one line of
JSON, what it tried, and for each what its client was told of the answer.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.suites.install import LMMS_EVAL
from tests.server.docs.pages import ROOT

PAGE = ROOT / "server/docs/clients.md"
REMEDY = "server/docs/clients.md does not say what this client has done: `make docs` writes it anew"


@dataclass(frozen=True, slots=True)
class Client:
    """By its name and the requirement that pins its release."""

    name: str
    release: str

    @property
    def version(self) -> str:
        return self.release.partition("==")[2]

    def row(self, tried: Iterable[str]) -> str:
        return f"| {self.name} | {self.version} | {', '.join(tried)} |"


def client(script: Path) -> Client:
    name = re.findall(r'^"""(.+)"""$', script.read_text(), re.MULTILINE)[0]
    return Client(name, requirements(script)[0])


def requirements(script: Path) -> list[str]:
    """What its environment is made of; one without any of its own runs in the server's, on vLLM."""
    header = re.findall(r"^# dependencies = \[(.+)\]$", script.read_text(), re.MULTILINE)
    return re.findall(r'"([^"]+)"', header[0]) if header else [VLLM]


VLLM = re.findall(r'"(vllm==[\d.]+)"', (ROOT / "pyproject.toml").read_text())[0]
SCRIPTS = tuple(sorted(Path(__file__).parent.glob("with_*.py")))
CLIENTS = {script: client(script) for script in SCRIPTS}
LMMS = Client("lmms-eval", LMMS_EVAL[0])
"""Tried by `make suites-test`."""


def listed(page: str) -> dict[str, str]:
    """The versions in the table by the names of the clients."""
    rows = re.findall(r"^\| ([^|]+) \| (\d[^|]*) \| .+ \|$", page, re.MULTILINE)
    return dict(rows)


def with_row(page: str, client: Client, row: str) -> str:
    """In place of the row of `client`, or as the table's first."""
    if client.name in listed(page):
        return re.sub(rf"^\| {re.escape(client.name)} \| .*$", lambda _: row, page, flags=re.MULTILINE)
    return page.replace("|---|---|---|\n", f"|---|---|---|\n{row}\n")
