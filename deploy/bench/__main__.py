"""Our searches beside what else a user would run, on one machine in one run: `python -m deploy.bench --help`."""

import argparse
import asyncio
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import aiohttp

from deploy.bench.measure import Cell, Kept, Turn, measured
from deploy.bench.processes import BenchError
from deploy.bench.report import report
from deploy.bench.rows import ROWS, Row, chosen, fleet

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL = ROOT / "training" / "checkpoints" / "demo"
KEPT = ROOT / "training" / "runs" / "bench"

SEARCHES: Mapping[int, int] = {1: 16, 4: 16, 16: 32, 64: 64}
"""Of each cell, by its clients."""
WARM_UP = Turn("warm-up", 4, 0, 4, mark=255)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    status = 0
    try:
        asyncio.run(run(options))
    except* (BenchError, aiohttp.ClientError) as errors:
        print(f"bench: {first(errors)}", file=sys.stderr)
        status = 1
    except* asyncio.CancelledError:  # what it started has ended
        status = 128 + signal.SIGTERM
    return status


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bench", description=__doc__)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"of: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--clients", nargs="+", type=int, choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--rounds", type=int, default=3, help="of which medians are told (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the searches")
    parser.add_argument("--fixed", action="store_true", help="candidates of fixed lengths, the same for all rows")
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint (default: the embedded one)")
    parser.add_argument("--port", type=int, help="the first of two for the servers (default: any)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results (default: this one)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder where a run that was cut off goes on from")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    rows = chosen(options.rows, fixed=options.fixed)
    mode = "fixed" if options.fixed else "sampled"
    of = {"machine": machine(), "commit": commit(), "lengths": mode, "quick": options.quick}
    kept = Kept(options.kept / f"{mode}.jsonl")
    cells = kept.begin(of)
    turns = list(remaining(rows, options, cells))
    if turns:
        cells += await measure_all(turns, rows, options, kept)
    report(options.out, of, cells)


def remaining(rows: Mapping[str, Row], options: argparse.Namespace, cells: Sequence[Cell]) -> Iterator[Turn]:
    """Rows take turns on the same problems, in the other order every other round; those done are left out."""
    done = {cell.key for cell in cells}
    for number in range(1, (1 if options.quick else options.rounds) + 1):
        for clients in options.clients:
            for name in rows if number % 2 else reversed(list(rows)):
                turn = Turn(name, clients, number, num_searches(rows[name], clients, options), list(ROWS).index(name))
                if turn.key not in done:
                    yield turn


def num_searches(row: Row, clients: int, options: argparse.Namespace) -> int:
    wanted = max(clients, SEARCHES[clients] // 4) if options.quick else SEARCHES[clients]
    return min(wanted, row.most_searches or wanted)


async def measure_all(
    turns: Sequence[Turn], rows: Mapping[str, Row], options: argparse.Namespace, kept: Kept
) -> list[Cell]:
    needed = list(dict.fromkeys(turn.row for turn in turns))
    print(f"starting {len({name for row in needed for name in rows[row].processes})} processes", file=sys.stderr)
    port = options.port or Random().randrange(18000, 28000)
    cells = []
    async with fleet([rows[name] for name in needed], options.model, port, fixed=options.fixed) as running:
        for name in needed:
            turn = replace(
                WARM_UP, num_searches=min(WARM_UP.num_searches, rows[name].most_searches or WARM_UP.num_searches)
            )
            say("warm-up", replace(await measured(turn, rows[name], running), row=name))
        started = time.perf_counter()
        for index, turn in enumerate(turns, 1):
            cell = await measured(turn, rows[turn.row], running)
            kept.add(cell)
            cells.append(cell)
            say(f"{index}/{len(turns)} after {time.perf_counter() - started:.0f} s", cell)
    return cells


def say(progress: str, cell: Cell) -> None:
    place = f"{cell.row}, {cell.clients} clients, round {cell.round}"
    print(f"{progress}: {place}: {cell.searches_per_s:.2f}/s, {cell.tokens_per_s:.0f} tokens/s", file=sys.stderr)


def machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0].partition(': ')[2]}, Python {platform.python_version()}"


def commit() -> str:
    shown = subprocess.run(
        ["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return shown or "unknown"


if __name__ == "__main__":
    sys.exit(main())
