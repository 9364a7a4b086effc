"""Searches a second from one engine to a thousand of them: `python -m deploy.bench.simulate --help`."""

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from deploy.bench.simulate_cluster import MAX_CANDIDATES, Cluster, Fronts
from deploy.bench.simulate_estimate import Roofline
from deploy.bench.simulate_inputs import StepTimes, Workload
from deploy.bench.simulate_routing import ROUTINGS
from deploy.bench.simulate_sweep import REPLICAS, Row, Sweep, bend

HERE = Path(__file__).parent
MODEL = "training/checkpoints/demo"

DESCRIPTION = """How many searches a second clusters serve, simulated from measured step times.

  measure   step times, recorded searches and the server's own cost, on real vLLM of this machine's CPU
  check     one and two real servers under load beside the simulation of the same
  grow      searches/s from 1 to 1,000 replicas by arrangement, steady and in bursts: a table, a JSON and a plot
  node      what some replicas serve at most with nearly every answer in time, as those of one 8-GPU node
  estimate  a file of step times by the roofline, for an accelerator that was not measured

Each with --help. What `grow` and `node` go by is --step-times and --searches, by default those measured on the CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print("simulate:", *str(error).split(), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.bench.simulate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    measure = _command(commands, "measure", run_measure, "measure step times and record searches, on one core")
    measure.add_argument("--core", type=int, default=0, help="that engine and server are kept to (default %(default)s)")
    check = _command(commands, "check", run_check, "compare the simulation with real servers")
    check.add_argument("--seconds", type=float, default=80, help="of load, a quarter to warm up (default %(default)s)")
    check.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="of each server (default 1 8)")
    check.add_argument("--out", type=Path, default=HERE / "simulate_check.json", help="JSON (default %(default)s)")
    for command in (measure, check):
        command.add_argument("--model", default=MODEL, help="checkpoint with questions (default %(default)s)")
        command.add_argument("--port", type=int, default=18431, help="first that servers take (default %(default)s)")

    grow = _command(commands, "grow", run_grow, "searches/s from 1 to 1,000 replicas")
    grow.add_argument(
        "--load", type=float, default=0.75, help="offered, of what a replica serves at most (%(default)s)"
    )
    grow.add_argument("--burst", type=int, default=8, help="searches for each replica at once (default %(default)s)")
    grow.add_argument("--replicas", type=int, nargs="+", default=list(REPLICAS), help="sizes of the cluster")
    grow.add_argument("--out", type=Path, default=HERE, help="folder of simulate.json and simulate.png")
    node = _command(commands, "node", run_node, "what a node serves at most")
    node.add_argument("--replicas", type=int, default=8, help="engines of the node (default %(default)s)")
    for command in (grow, node):
        command.add_argument("--max-candidates", type=int, default=MAX_CANDIDATES, help="each; as the server's option")
        command.add_argument(
            "--num-searches", type=int, default=4000, help="that arrive at least (default %(default)s)"
        )
        command.add_argument("--length", type=float, default=1, help="ASSUME stages so many times as long as recorded")
        command.add_argument("--prompt-tokens", type=int, help="ASSUME prompts of so many tokens, image included")
    for command in (measure, check, grow, node):
        command.add_argument("--step-times", type=Path, default=HERE / "step_times.json", help="default %(default)s")
        command.add_argument(
            "--searches", type=Path, default=HERE / "simulate_searches.json", help="default %(default)s"
        )

    estimate = _command(commands, "estimate", run_estimate, "step times by the roofline")
    estimate.description = Roofline.__doc__
    estimate.add_argument("--out", type=Path, required=True, help="file of step times")
    for each in fields(Roofline):
        estimate.add_argument(f"--{each.name.replace('_', '-')}", type=float, default=each.default)
    return parser


def _command(commands: Any, name: str, run: Any, told: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=told, description=told)
    parser.set_defaults(run=run)
    return parser


def run_measure(options: argparse.Namespace) -> None:
    from deploy.bench import simulate_measure, simulate_record

    simulate_measure.pin(options.core)
    source = f"measured: {options.model} on vLLM, one core of {_machine()}"
    searches = f"balanced searches of the questions of {options.model}"
    recording = simulate_record.recorded_workload(options.model, options.core, options.port, source=searches)
    workload, front_s = asyncio.run(recording)
    times = asyncio.run(simulate_measure.step_times(options.model, source=source, front_request_s=front_s))
    options.searches.write_text(workload.model_dump_json() + "\n")
    options.step_times.write_text(times.model_dump_json(indent=1) + "\n")
    print(f"{len(workload.searches)} searches\n{times.model_dump_json(indent=1)}")


def run_check(options: argparse.Namespace) -> None:
    from deploy.bench import simulate_check

    times, workload = _inputs(options)
    told = asyncio.run(
        simulate_check.all_compared(
            options.model, times, workload, clients=options.clients, seconds=options.seconds, port=options.port
        )
    )
    print(simulate_check.table(told))
    _write(options.out, {"machine": _machine(), "seconds": options.seconds, "rows": [asdict(each) for each in told]})


def run_grow(options: argparse.Namespace) -> None:
    from deploy.bench import simulate_plot

    sweep = _sweep(options)
    rows = []
    for row in sweep.grow(load=options.load, bursts=(0, options.burst), replicas=options.replicas):
        rows.append(row)
        print(_line(row), flush=True)
    bends = {name: bend(list(some)) for name, some in groupby(rows, key=_curve)}
    for name, size in bends.items():
        print(f"{name}: " + ("no bend" if size is None else f"bends at {size} replicas"))
    told = {
        "step_times": sweep.times.source,
        "searches": sweep.workload.source,
        "load": options.load,
        "num_searches": options.num_searches,
        "lone_s": sweep.lone_s,
        "most_per_s": sweep.most_per_s,
        "in_time_s": sweep.in_time_s,
        "routings": dict(ROUTINGS),
        "bends_at": bends,
        "rows": [asdict(row) for row in rows],
    }
    _write(options.out / "simulate.json", told)
    simulate_plot.plot(rows, options.out / "simulate.png")


def run_node(options: argparse.Namespace) -> None:
    sweep = _sweep(options)
    servers: Mapping[Fronts, str] = {"each": "a server for each", "one": "one server for all, its searches pinned"}
    for fronts, told in servers.items():
        row = sweep.most_in_time(Cluster(options.replicas, "least", fronts))
        print(
            f"{options.replicas} replicas, {told}: {row.in_time_per_s:.1f} searches/s in time, "
            f"p50 {row.p50_s:.2f} s, p95 {row.p95_s:.2f} s"
        )


def run_estimate(options: argparse.Namespace) -> None:
    given = {each.name: getattr(options, each.name) for each in fields(Roofline)}
    front_s = StepTimes.read(HERE / "step_times.json").front_request_s
    times = Roofline(**given).step_times(front_request_s=front_s)
    options.out.write_text(times.model_dump_json(indent=1) + "\n")
    print(times.source)


def _inputs(options: argparse.Namespace) -> tuple[StepTimes, Workload]:
    return StepTimes.read(options.step_times), Workload.read(options.searches)


def _sweep(options: argparse.Namespace) -> Sweep:
    """Of what the options tell, told at once."""
    times, workload = _inputs(options)
    if options.prompt_tokens or options.length != 1:
        prompt_tokens = options.prompt_tokens or workload.searches[0].prompt_tokens
        workload = workload.scaled(prompt_tokens=prompt_tokens, length=options.length)
    sweep = Sweep(times, workload, options.num_searches, options.max_candidates)
    print(
        f"step times: {times.source}\nsearches: {workload.source}; {len(workload.searches)} of them, "
        f"{workload.requests_per_search:.1f} requests and {workload.tokens_per_search:.0f} tokens each\n"
        f"one replica: a lone search within {sweep.lone_s:.2f} s, at most {sweep.most_per_s:.2f} searches/s; "
        f"in time is within {sweep.in_time_s:.2f} s"
    )
    return sweep


def _line(row: Row) -> str:
    return (
        f"{_curve(row):30} {row.replicas:5} replicas: {row.offered_per_s:8.1f} offered/s "
        f"{row.searches_per_s:8.1f} served/s {row.in_time_per_s:8.1f} in time/s  p50 {row.p50_s:6.2f} s "
        f"p95 {row.p95_s:6.2f} s  refused {row.refused:.1%}"
    )


def _curve(row: Row) -> str:
    arrivals = f"bursts of {row.burst_per_replica}" if row.burst_per_replica else "steady"
    return f"{row.arrangement}, {arrivals}"


def _machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor()


def _write(path: Path, told: Any) -> None:
    path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
