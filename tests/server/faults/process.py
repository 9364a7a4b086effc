"""`swires serve` as a process of its own, and those that it starts."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.conftest import DEMO

ROOT = Path(__file__).parents[3]
REAL = (sys.executable, "-m", "server", "serve")
FAKE = (sys.executable, "-m", "tests.server.faults.fake_serve", "serve", "--scorers", "likelihood")
"""The command with a fake engine in the place of vLLM, which starts in two seconds."""

READY_S = 300


@dataclass(frozen=True)
class Served:
    """`children` are not those of a shell: what is waited for is the command itself."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    def connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=None)

    async def ready(self) -> None:
        async with asyncio.timeout(READY_S), self.connect() as client:
            while not await _is_ready(client):
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.1)

    async def ended(self, within_s: float) -> int:
        """Its status."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    @property
    def told(self) -> list[str]:
        """What it has said of itself in lines of its own."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("swires: ")]


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/ready")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def started(
    folder: Path,
    *options: str,
    command: Sequence[str] = FAKE,
    model: Path = DEMO,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> AsyncGenerator[Served, None]:
    """It logs into `folder`, where nothing else is asked for, and is gone after."""
    port, log = free_port(), folder / "log"
    serve = (*command, "--model", str(model), "--port", str(port))
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *serve,
            *options,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=out.fileno() if stdout is None else stdout,
            stderr=out.fileno() if stderr is None else stderr,
            start_new_session=True,
        )
    try:
        yield Served(f"http://127.0.0.1:{port}", process, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        told = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        children = [int(child) for text in told for child in text.split()]
        return [each for child in children for each in (child, *descendants(child))]
    return []


def command_line(pid: int) -> str:
    """Empty where it has ended."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def lives(pid: int) -> bool:
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def cores_of(server: Served) -> list[int]:
    """The processes that vLLM's scheduler runs in, once there are any."""
    return [pid for pid in descendants(server.process.pid) if "EngineCore" in command_line(pid)]
