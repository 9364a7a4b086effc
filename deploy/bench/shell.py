"""What the server itself costs, on an engine that costs next to nothing: `python -m deploy.bench.shell --help`."""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import linear_regression, median, quantiles
from typing import Any, Literal

import aiohttp
import uvloop
from PIL.Image import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import sample
from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.serve import bound, serve
from server.settings import Settings
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import FinishReason, Problem, Sampling

HERE = Path(__file__).parent
MIB = 1024 * 1024
EXTRA_TOKENS = (0, 100, 200, 400)
STREAMS, WAITING = 64, 2000
LAG_EVERY_S = 0.005

Kind = Literal["searched", "streamed"]
KINDS: dict[Kind, dict[str, Any]] = {
    "searched": {"swires": {"preset": "balanced", "max_retraces": 0}},
    "streamed": {"swires": {"policy": "greedy"}, "stream": True},
}


class RehearsedEngine(FakeEngine):
    """Writes each thing once and repeats it from memory; every candidate is `extra_tokens` longer than the fake's."""

    def __init__(self, extra_tokens: int) -> None:
        super().__init__(max_model_len=65_536)
        self._extra_tokens = extra_tokens
        self._rehearsed: dict[object, list[Chunk]] = {}
        self.num_tokens = 0

    async def render(self, messages: Sequence[Any], images: Sequence[Image]) -> Problem:
        """See `server.serving_engine.ServingEngine`; an image is known by its hash, as vLLM's renderer knows it."""
        problem = await super().render(messages, ())
        return Problem(sha256(b"".join(image.tobytes() for image in images)).hexdigest(), problem.num_prompt_tokens)

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`."""
        key = (prefix, stage, n, sampling.seed, live)
        if key not in self._rehearsed:
            made = super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)
            self._rehearsed[key] = [chunk async for chunk in made]
        for chunk in self._rehearsed[key]:
            await asyncio.sleep(0)
            self.num_tokens += len(chunk.token_ids)
            yield chunk

    def _written(
        self, problem: Problem, prefix: tuple[int, ...], stage: Stage, sampling: Sampling, chance: Random
    ) -> tuple[tuple[int, ...], FinishReason]:
        ids, finish_reason = super()._written(problem, prefix, stage, sampling, chance)
        return ids[:1] + self.encode("a" * self._extra_tokens) + ids[1:], finish_reason


class Held(RehearsedEngine):
    """Answers its first question, that of the warm-up, and no other."""

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        if self.num_tokens:
            await asyncio.Event().wait()
        async for chunk in super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live):
            yield chunk


@dataclass(frozen=True, slots=True)
class Server:
    session: aiohttp.ClientSession
    url: str
    pid: int

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def told(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/bench") as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def ask(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        async with self.session.post(f"{self.url}/v1/chat/completions", data=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200 or b'"finish_reason"' not in text:
                raise RuntimeError(f"{answer.status}: {text[:200]!r}")

    async def ask_many(self, body: bytes, num_searches: int, num_clients: int) -> None:
        left = iter(range(num_searches))

        async def client() -> None:
            for _ in left:
                await self.ask(body)

        async with asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(client())


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU a search and microseconds a token, from runs that differ in tokens alone."""

    ms_per_search: float
    us_per_token: float
    tokens_and_ms: list[tuple[float, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.serve:
        uvloop.run(_serve(options))
        return 0
    try:
        asyncio.run(_measure(options))
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        print(f"shell: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.shell", description=__doc__)
    parser.add_argument("--searches", type=int, default=300, help="of each run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians count (default %(default)s)")
    parser.add_argument("--port", type=int, default=18531, help="that the server takes (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "shell.json", help="JSON (default %(default)s)")
    parser.add_argument("--flame", type=Path, help="SVG of where the time of streamed tokens goes, by py-spy")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)  # the server's own process
    parser.add_argument("--extra-tokens", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    return parser


async def _serve(options: argparse.Namespace) -> None:
    settings = Settings(model="demo", max_candidates=100_000, max_waiting=2 * WAITING, max_arriving=2 * WAITING)
    if options.held:
        settings = settings.model_copy(update={"max_candidates": 1, "timeout_s": 3600})
    async with (Held if options.held else RehearsedEngine)(options.extra_tokens) as engine:
        app = create_app(engine, {"fake": FakeScorer()}, settings)
        lags: list[float] = []

        async def told(request: Request) -> Response:
            waiting = app.state.service.scheduler.num_waiting
            answer = JSONResponse({"tokens": engine.num_tokens, "lags": lags.copy(), "waiting": waiting})
            lags.clear()
            return answer

        app.add_route("/bench", told)
        watching = asyncio.create_task(_watch(lags))
        try:
            await serve(app, bound("127.0.0.1", options.port), lambda: None)
        finally:
            watching.cancel()


async def _watch(lags: list[float]) -> None:
    """How much later than due the loop comes back to a task that sleeps."""
    while True:
        due = time.perf_counter() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lags.append(time.perf_counter() - due)


async def _measure(options: argparse.Namespace) -> None:
    report: dict[str, Any] = {"machine": _machine()}
    for kind in KINDS:
        cost = await _cost(kind, options)
        report[kind] = asdict(cost)
        print(f"{kind:9} {cost.ms_per_search:6.2f} ms a search + {cost.us_per_token:6.1f} us a token", flush=True)
    report["lag_ms"] = await _lag(options)
    print(f"loop lag at {STREAMS} streams: {report['lag_ms']} ms", flush=True)
    report["waiting"] = await _memory(options)
    print(f"{report['waiting']['searches']} waiting searches: {report['waiting']['mib']} MiB")
    options.out.write_text(json.dumps(report, indent=2) + "\n")


def _machine() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {"python": platform.python_version(), "machine": platform.machine(), "commit": commit.stdout.strip()}


async def _cost(kind: Kind, options: argparse.Namespace) -> Cost:
    """By the medians of rounds in which the lengths take turns."""
    body = _body(kind)
    seen: dict[int, list[tuple[float, float]]] = {extra: [] for extra in EXTRA_TOKENS}
    for _ in range(options.rounds):
        for extra, points in seen.items():
            async with _running(options, extra) as server:
                await server.ask_many(body, 50, 8)
                tokens, cpu_s = (await server.told())["tokens"], server.cpu_s
                await server.ask_many(body, options.searches, 8)
                cpu_s = server.cpu_s - cpu_s
                tokens = (await server.told())["tokens"] - tokens
            points.append((tokens / options.searches, 1000 * cpu_s / options.searches))
    medians = [(points[0][0], median(ms for _, ms in points)) for points in seen.values()]
    slope, intercept = linear_regression(*zip(*medians, strict=True))
    points = [(round(tokens, 1), round(ms, 3)) for tokens, ms in medians]
    return Cost(round(intercept, 3), round(1000 * slope, 2), points)


async def _lag(options: argparse.Namespace) -> dict[str, float]:
    async with _running(options, EXTRA_TOKENS[1]) as server:
        body = _body("streamed")
        await server.ask_many(body, STREAMS, STREAMS)
        await server.told()
        flame = _flame(server.pid, options.flame) if options.flame else None
        await server.ask_many(body, 6 * options.searches if flame else options.searches, STREAMS)
        if flame:
            flame.wait()
        percentiles = quantiles((await server.told())["lags"], n=100)
    return {"p50": round(1000 * percentiles[49], 2), "p99": round(1000 * percentiles[98], 2)}


def _flame(pid: int, path: Path) -> subprocess.Popen[bytes]:
    py_spy = os.path.relpath(Path(sys.executable).with_name("py-spy"))  # which writes its own command into the graph
    return subprocess.Popen([py_spy, "record", "-p", str(pid), "-d", "8", "-o", path], stdout=subprocess.DEVNULL)


async def _memory(options: argparse.Namespace) -> dict[str, float]:
    """Of the whole process: connections, requests and plans of searches that wait behind one that is held."""
    async with _running(options, 0, "--held") as server:
        body = _body("searched")
        before = server.resident_bytes
        asked = [asyncio.create_task(server.ask(body)) for _ in range(WAITING + 1)]
        try:
            async with asyncio.timeout(120):
                while (await server.told())["waiting"] < WAITING:  # noqa: ASYNC110  of another process
                    await asyncio.sleep(0.2)
            grown = server.resident_bytes - before
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
    return {"searches": WAITING, "mib": round(grown / MIB, 1), "kib_each": round(grown / WAITING / 1024, 1)}


def _body(kind: Kind) -> bytes:
    return json.dumps({"model": "demo", "messages": [sample.message()], "seed": 1, **KINDS[kind]}).encode()


@asynccontextmanager
async def _running(options: argparse.Namespace, extra_tokens: int, *more: str) -> AsyncIterator[Server]:
    command = [sys.executable, "-m", "deploy.bench.shell", "--serve", "--port", str(options.port)]
    process = subprocess.Popen([*command, "--extra-tokens", str(extra_tokens), *more])  # noqa: ASYNC220
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
            server = Server(session, f"http://127.0.0.1:{options.port}", process.pid)
            await _ready(server, process)
            yield server
    finally:
        process.kill()
        process.wait()


async def _ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError where the server ends instead."""
    while process.poll() is None:
        try:
            await server.told()
            return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    raise RuntimeError(f"the server ended with {process.returncode}")


if __name__ == "__main__":
    raise SystemExit(main())
