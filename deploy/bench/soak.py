"""Searches by the thousand, with bad inputs, hang-ups and bursts among them: `python -m deploy.bench.soak --help`."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import aiohttp

from deploy.bench import processes
from deploy.bench.processes import BenchError
from deploy.bench.soak_load import Load
from deploy.bench.soak_report import judged, line, write
from deploy.bench.soak_watch import at_rest, watched

Json: TypeAlias = dict[str, Any]

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "training" / "checkpoints" / "demo"
HOST = "127.0.0.1"
TIMES = 10
"""As many searches come at once in a burst as the server takes, times this."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A server to soak, how many searches at once it takes, and how it is asked."""

    options: Sequence[str]
    capacity: int
    searches: int
    rounds: int
    warm_up: int  # rounds
    clients: int


FOR_ALL = ("--host", HOST, "--served-name", "demo", "--max-body-mib", "1")
KINDS: Mapping[str, Kind] = {
    "fake": Kind(
        options=("fake", "--model", "demo", "--max-candidates", "32", "--max-waiting", "32", *FOR_ALL),
        capacity=8,
        searches=10_000,
        rounds=40,
        warm_up=8,
        clients=24,
    ),
    "vllm": Kind(
        options=("serve", "--max-candidates", "16", "--max-waiting", "16", "--log-level", "error", *FOR_ALL),
        capacity=4,
        searches=500,
        rounds=20,
        warm_up=8,
        clients=12,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        report = asyncio.run(measured(options))
    except (OSError, BenchError, aiohttp.ClientError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    write(options.out, options.kind, report)
    print(json.dumps({name: report[name] for name in ("outcomes", "memory", "leaked", "unlike")}, indent=2))
    return 0 if report["clean"] and report["flat"] else 1


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.soak", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="over a fake engine, or `swires serve` on vLLM")
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint for vLLM (default: the embedded one)")
    parser.add_argument("--port", type=int, default=18551, help="that the server takes (default %(default)s)")
    parser.add_argument("--searches", type=int, help="to be answered (default 10,000; of vLLM 500)")
    parser.add_argument("--rounds", type=int, help="after each of which the server comes to rest (default 40; 20)")
    parser.add_argument("--seed", type=int, default=1, help="of what is asked (default %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "soak.json", help="JSON (default %(default)s)")
    return parser.parse_args(arguments)


async def measured(options: argparse.Namespace) -> Json:
    kind = KINDS[options.kind]
    searches, rounds = options.searches or kind.searches, options.rounds or kind.rounds
    model = ["--model", str(options.model)] if options.kind == "vllm" else []
    command = processes.python("deploy.bench.soak_server", *kind.options, *model, "--port", str(options.port))
    load = Load(HOST, options.port, _questions(), Random(options.seed), may_fail=options.kind == "fake")
    async with processes.server(command, f"http://{HOST}:{options.port}", "/ready") as server:
        rests, started = [await at_rest(server, 0, 0.0)], time.monotonic()
        async with watched(server.pid, lambda: load.num_answered) as samples:
            for number in range(1, rounds + 1):
                await load.burst(TIMES * kind.capacity)
                await load.steady(kind.clients, until_answered=searches * number // rounds)
                elapsed_s = time.monotonic() - started
                rests.append(await at_rest(server, load.num_answered, elapsed_s, rests[0].num_tasks))
                print(line(number, rounds, rests[-1], load.outcomes), file=sys.stderr, flush=True)
    warm_up = kind.warm_up * rounds // kind.rounds
    return {**_settings(kind, searches, rounds, warm_up), **judged(rests, samples, warm_up, load)}


def _questions() -> list[dict[str, str]]:
    """Those that come with the embedded checkpoint."""
    return [json.loads(each) for each in (MODEL / "questions.jsonl").read_text().splitlines()]


def _settings(kind: Kind, searches: int, rounds: int, warm_up: int) -> Json:
    load_average = [round(each, 1) for each in os.getloadavg()]
    return {
        "load_average": load_average,
        "asked": {
            **asdict(kind),
            "searches": searches,
            "rounds": rounds,
            "warm_up": warm_up,
            "burst": TIMES * kind.capacity,
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
