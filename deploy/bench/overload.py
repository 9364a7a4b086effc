"""What comes of ten times the searches that a server can take: `python -m deploy.bench.overload --help`."""

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from random import Random
from statistics import fmean, median, quantiles
from typing import Any

import aiohttp

from training.evaluation.problems import is_right

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "training" / "checkpoints" / "demo"
ARMS: Mapping[str, Sequence[str]] = {"plain": (), "shrinking": ("--shrink-under-load", "true")}
"""The options of the servers that are compared; the first one's peak is what all are loaded by."""

TIMES = 10
SEED = 1
PROBE_EVERY_S = 0.1
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Question:
    body: bytes
    expected: str


@dataclass(frozen=True, slots=True)
class Answered:
    """When an answer was whole, seconds after the load began, and how long after it was due to be asked for."""

    at_s: float
    took_s: float
    status: int
    text: bytes
    expected: str


@dataclass(frozen=True, slots=True)
class Server:
    session: aiohttp.ClientSession
    url: str

    async def answer_s(self, path: str) -> float:
        """How long it takes to answer this."""
        started = time.perf_counter()
        async with self.session.get(f"{self.url}{path}") as answer:
            await answer.read()
            answer.raise_for_status()
        return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Load:
    """What a server is asked, from `started` on, and what has come of it."""

    server: Server
    questions: Iterator[Question]
    started: float = field(default_factory=time.perf_counter)
    answers: list[Answered] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)

    async def ask(self, question: Question, due: float) -> None:
        url = f"{self.server.url}/v1/chat/completions"
        async with self.server.session.post(url, data=question.body, headers=HEADERS) as answer:
            text = await answer.read()
        now = time.perf_counter()
        self.answers.append(Answered(now - self.started, now - due, answer.status, text, question.expected))

    async def client(self) -> None:
        """Asks again as soon as it is answered."""
        for question in self.questions:
            await self.ask(question, time.perf_counter())

    async def arrivals(self, rate: float, tasks: asyncio.TaskGroup) -> None:
        """So many a second, each independent of the others, whatever becomes of them: a Poisson process."""
        chance, due = Random(SEED), self.started
        for question in self.questions:
            due += chance.expovariate(rate)
            await asyncio.sleep(due - time.perf_counter())
            tasks.create_task(self.ask(question, due))

    async def probe(self) -> None:
        while True:
            self.probes.append(await self.server.answer_s("/health"))
            await asyncio.sleep(PROBE_EVERY_S)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        report = asyncio.run(measured(options))
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        print(f"overload: {error}", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    return 0


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.overload", description=__doc__)
    parser.add_argument("--url", help="of a running server to load instead of those that this starts")
    parser.add_argument("--model", type=Path, default=MODEL, help="that they serve (default: the embedded checkpoint)")
    parser.add_argument("--port", type=int, default=18541, help="of the first of them (default %(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="that find the peak (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=40, help="that a load is measured (default %(default)s)")
    parser.add_argument("--warm-up", type=float, default=15, help="seconds before that (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians count (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "overload.json", help="JSON (default %(default)s)")
    return parser.parse_args(arguments)


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The loads take turns, so that what else the machine does befalls all."""
    questions = _questions(options.model)
    rounds = []
    async with AsyncExitStack() as stack:
        servers = {
            arm: await stack.enter_async_context(_server(options, index)) for index, arm in enumerate(_arms(options))
        }
        first = next(iter(servers.values()))
        for _ in range(options.rounds):
            told = {"peak": await _load(first, questions, options, rate=None)}
            rate = TIMES * told["peak"]["searches_per_s"]
            for arm, server in servers.items():
                told[arm] = await _load(server, questions, options, rate=rate)
            rounds.append(told)
            print(json.dumps(told), file=sys.stderr, flush=True)
    return {"machine": _machine(), "times": TIMES, "medians": _medians(rounds), "rounds": rounds}


def _arms(options: argparse.Namespace) -> Sequence[str]:
    return ("plain",) if options.url else tuple(ARMS)


def _machine() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {"python": platform.python_version(), "machine": platform.machine(), "commit": commit.stdout.strip()}


def _questions(model: Path) -> Iterator[Question]:
    """Those that come with the checkpoint, again and again, made ready to be sent."""
    lines = map(json.loads, (model / "questions.jsonl").read_text().splitlines())
    return cycle([Question(_body(line), line["answer"]) for line in lines])


def _body(line: Mapping[str, str]) -> bytes:
    image = {"type": "image_url", "image_url": {"url": line["image"]}}
    parts = [image, {"type": "text", "text": line["question"]}]
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": parts}]}).encode()


@asynccontextmanager
async def _server(options: argparse.Namespace, index: int) -> AsyncIterator[Server]:
    """Ready to be asked. Raises RuntimeError where it ends instead."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session,
        AsyncExitStack() as stack,
    ):
        if options.url:
            yield Server(session, options.url)
            return
        port = options.port + index
        command = [sys.executable, "-m", "server", "serve", "--model", str(options.model), "--log-level", "error"]
        process = await stack.enter_async_context(
            _process([*command, "--served-name", "demo", "--port", str(port), *tuple(ARMS.values())[index]])
        )
        server = Server(session, f"http://127.0.0.1:{port}")
        await _ready(server, process)
        yield server


@asynccontextmanager
async def _process(command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(server: Server, process: asyncio.subprocess.Process) -> None:
    while process.returncode is None:
        with suppress(aiohttp.ClientError):
            await server.answer_s("/ready")
            return
        await asyncio.sleep(1)
    raise RuntimeError(f"the server ended with {process.returncode}")


async def _load(
    server: Server, questions: Iterator[Question], options: argparse.Namespace, *, rate: float | None
) -> dict[str, Any]:
    """With a `rate`, questions come so many a second; without one, clients ask. What still runs at the end is hung up
    on."""
    load, own_s = Load(server, questions), time.process_time()
    with suppress(TimeoutError):
        async with asyncio.timeout(options.warm_up + options.seconds), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.probe())
            if rate is not None:
                tasks.create_task(load.arrivals(rate, tasks))
            for _ in range(options.clients if rate is None else 0):
                tasks.create_task(load.client())
    client_share = (time.process_time() - own_s) / (time.perf_counter() - load.started)
    return {
        **summary([each for each in load.answers if each.at_s >= options.warm_up], options.seconds),
        "health_ms": _percentiles([1000 * each for each in load.probes]),
        "client_core_share": round(client_share, 3),
    }


def summary(answers: Sequence[Answered], seconds: float) -> dict[str, Any]:
    """Raises RuntimeError where there are others than answers and refusals, or none."""
    statuses = Counter(each.status for each in answers)
    if not statuses[200] or set(statuses) - {200, 503}:
        raise RuntimeError(f"answers by status: {dict(statuses)}")
    found = [(each, json.loads(each.text)) for each in answers if each.status == 200]
    searches = [told["swires"] for _, told in found]
    right = [is_right(told["choices"][0]["message"]["content"], each.expected) for each, told in found]
    return {
        "searches_per_s": round(len(found) / seconds, 2),
        "tokens_per_s": round(sum(told["usage"]["completion_tokens"] for _, told in found) / seconds),
        "generations": round(fmean(search["generations"] for search in searches), 2),
        "stopped_by": dict(Counter(search["stopped_by"] or "nothing" for search in searches)),
        "right": round(fmean(right), 3),
        "search_s": round(fmean(search["seconds"] for search in searches), 2),
        "answer_s": _percentiles([each.took_s for each, _ in found]),
        "refused_per_s": round(statuses[503] / seconds, 1),
        "refusal_ms": _percentiles([1000 * each.took_s for each in answers if each.status == 503]),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Empty where there are too few."""
    if len(values) < 2:
        return {}
    cuts = quantiles(values, n=100, method="inclusive")
    return {name: round(cuts[cut - 1], 2) for name, cut in (("p50", 50), ("p95", 95), ("p99", 99))}


def _medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the rounds; `of_peak` and `tokens_of_peak` are of each round by itself."""
    return {load: _median([told[load] for told in rounds], [told["peak"] for told in rounds]) for load in rounds[0]}


def _median(told: Sequence[Mapping[str, Any]], peaks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    figures: dict[str, list[float]] = {
        name: [each[name] for each in told] for name in ("searches_per_s", "generations", "right")
    }
    for name, rate in (("of_peak", "searches_per_s"), ("tokens_of_peak", "tokens_per_s")):
        figures[name] = [each[rate] / peak[rate] for each, peak in zip(told, peaks, strict=True)]
    for name, cut in product(("answer_s", "refusal_ms", "health_ms"), ("p50", "p99")):
        figures[f"{name}_{cut}"] = [each[name][cut] for each in told if each[name]]
    return {name: round(median(values), 3) for name, values in figures.items() if values}


def table(report: Mapping[str, Any]) -> str:
    """A line for each figure, a column for each load."""
    medians = report["medians"]
    lines = [("", *medians)]
    lines += [(name, *(str(told.get(name, "")) for told in medians.values())) for name in medians["plain"]]
    return "\n".join("  ".join(f"{cell:>15}" for cell in line) for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
