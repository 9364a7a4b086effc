"""The server over the fake engine as a process of its own, whose memory and files can be counted."""

import re
import resource
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from server import connection
from server.app import create_app
from server.scorer.fake import FakeScorer
from server.serve import bound, serve
from server.settings import Settings
from tests.server.gate.verbose import Verbose

FILES = 256
"""Fewer than there will be connections: what a shell gives is not much more."""

TIMEOUT_S = 3
LONG = 1_000_000


@dataclass(frozen=True)
class Process:
    pid: int
    url: str

    @property
    def mib(self) -> float:
        return self._mib("VmRSS")

    @property
    def peak_mib(self) -> float:
        return self._mib("VmHWM")

    @property
    def num_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _mib(self, name: str) -> float:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / 1024


@contextmanager
def started() -> Generator[Process, None, None]:
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            yield Process(child.pid, child.stdout.readline().strip())
        finally:
            child.terminate()


async def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    connection.HEAD_TIMEOUT_S = connection.WRITE_TIMEOUT_S = TIMEOUT_S
    settings = Settings.model_validate({"model": "demo"})
    with bound("127.0.0.1", 0) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with Verbose(LONG) as engine:
            await serve(create_app(engine, {"fake": FakeScorer()}, settings), sock, lambda: print(url, flush=True))


if __name__ == "__main__":
    uvloop.run(main())
