"""What a soak has shown, as data, a page and a picture; a run replaces what the page told of its kind of server."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any, TypeAlias

from deploy.bench.soak_load import Load
from deploy.bench.soak_watch import Rest

Json: TypeAlias = dict[str, Any]
Samples: TypeAlias = Sequence[tuple[int, Mapping[str, float]]]

FLAT_PERCENT = 5
AVERAGED = 3
"""Rests whose mean is the memory at the end of the warm-up, and at the end."""

MOST_SAMPLES = 200
TITLES = {"fake": "A fake engine", "vllm": "`swires serve` on vLLM"}
NOTES = {
    "vllm": """\
What still grows, by the mappings of the processes, is in the worker its heap: oneDNN keeps a primitive for each
layer and number of tokens in a batch, 1,024 of them at most. By themselves, 32 matrix products at each of 1 to
256 tokens took 463 MiB more, nothing when all were asked again, and 79 MiB in all with
`ONEDNN_PRIMITIVE_CACHE_CAPACITY=0`. On a GPU there is none of that. In server and core it is malloc's arenas of
their threads, 24 and 15 MiB more by the end. Keys and values have all their memory from the start.
"""
}
HEAD = """\
# A soak

`make soak` asks a server over a fake engine for 10,000 answers, `make soak-vllm` a `swires serve` of the embedded
checkpoint on vLLM for 500, each in a process of its own, over sockets. The searches are of all policies, through both
APIs, whole and as streams, with and without further answers, logprobs, a schema and stop strings. Among them are the
[bad inputs](../../tests/server/gate/cases.py) and clients that hang up: before they have asked all, while they wait,
while they read. A round begins with ten times as many searches at once as the server takes, and ends when it has come
to rest. The fake engine fails at one token in 100,000.

Memory is that of a process at rest. It is flat where the mean of the last three rounds is within 5 % of that of the
three that end the warm-up. What is left at the end is compared with what was there before the first search: tasks of
the event loop, open files of all processes, searches, requests to the engine. [The data](soak.json) have every round.

![Memory over the searches answered](soak.png)
"""


def judged(rests: Sequence[Rest], samples: Samples, warm_up: int, load: Load) -> Json:
    """`rests` begins with the one before the first search."""
    first, last = rests[0], rests[-1]
    memory = {name: _memory(name, rests, samples, warm_up) for name in last.mib}
    leaked = {
        "tasks": last.num_tasks - first.num_tasks,
        "files": last.num_files - first.num_files,
        **{name.removeprefix("swires_"): round(value) for name, value in last.busy.items()},
    }
    flat = all(abs(each["growth_percent"]) <= FLAT_PERCENT for each in memory.values())
    return {
        "machine": _machine(),
        "seconds": last.at_s,
        "searches_per_s": round(load.num_answered / last.at_s, 2),
        "outcomes": dict(load.outcomes),
        "unlike": load.unlike,
        "memory": memory,
        "flat": flat,
        "leaked": leaked,
        "clean": not any(leaked.values()) and not load.outcomes["unlike"],
        "rests": [asdict(rest) for rest in rests],
        "samples": samples[:: max(1, len(samples) // MOST_SAMPLES)],
    }


def _memory(name: str, rests: Sequence[Rest], samples: Samples, warm_up: int) -> Json:
    """In MiB; the slope is that of a line through all rests after the warm-up."""
    warm, end = (
        fmean(each.mib[name] for each in some) for some in (rests[: warm_up + 1][-AVERAGED:], rests[-AVERAGED:])
    )
    later = rests[warm_up:]
    slope, _ = linear_regression([each.num_answered for each in later], [each.mib[name] for each in later])
    return {
        "before": rests[0].mib[name],
        "warm": round(warm, 1),
        "end": round(end, 1),
        "peak": max((each.get(name, 0) for _, each in samples), default=0),
        "growth_percent": round(100 * (end / warm - 1), 2),
        "mib_per_1000_searches": round(1000 * slope, 2),
    }


def _machine() -> Json:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip(),
    }


def line(number: int, rounds: int, rest: Rest, outcomes: Mapping[str, int]) -> str:
    """The progress of a soak."""
    told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    sizes = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in rest.mib.items())
    held = f"{rest.num_tasks} tasks, {rest.num_files} files"
    return f"{number:3}/{rounds} {rest.at_s:7.1f} s  {sizes}; {held}; {told}"


def write(path: Path, kind: str, report: Json) -> None:
    reports: dict[str, Json] = json.loads(path.read_text()) if path.exists() else {}
    reports[kind] = report
    path.write_text(json.dumps(reports) + "\n")
    path.with_suffix(".md").write_text(page(reports))
    plot(reports, path.with_suffix(".png"))


def page(reports: Mapping[str, Json]) -> str:
    sections = [_section(TITLES[name], each) + "\n" + NOTES.get(name, "") for name, each in sorted(reports.items())]
    return "\n".join([HEAD, *sections])


def _section(title: str, report: Json) -> str:
    machine, outcomes = report["machine"], report["outcomes"]
    answered = outcomes.get("answered", 0) + outcomes.get("streamed", 0)
    where = f"{machine['cores']} cores of {machine['machine']}, load average {report['load_average'][0]}, Python "
    where += f"{machine['python']}, commit {machine['commit']}"
    told = [
        f"## {title}",
        "",
        f"{answered:,} answers in {report['seconds']:,.0f} s, {report['searches_per_s']} a second; {where}.",
        "",
        *_table(("what came of it", "times"), [(_words(name), f"{count:,}") for name, count in outcomes.items()]),
        "",
        *_table(
            ("memory in MiB", "before", "warm", "end", "greatest", "growth", "per 1,000 searches"),
            [_row(name, each) for name, each in report["memory"].items()],
        ),
        "",
        *_table(("left at the end", "bar 0"), [(_words(name), str(each)) for name, each in report["leaked"].items()]),
        "",
    ]
    return "\n".join(told)


def _row(name: str, memory: Json) -> list[str]:
    sizes = [f"{memory[key]:,.0f}" for key in ("before", "warm", "end", "peak")]
    return [name, *sizes, f"{memory['growth_percent']:+.1f} %", f"{memory['mib_per_1000_searches']:+.1f}"]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(names: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(each)} |" for each in (names, ["---"] * len(names), *lines)]


def plot(reports: Mapping[str, Json], path: Path) -> None:
    """In percent of what it is after the warm-up: lines while the server is asked, points at rest."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(reports), figsize=(5.5 * len(reports), 4), squeeze=False, layout="constrained")
    for axis, (name, report) in zip(axes[0], sorted(reports.items()), strict=True):
        axis.axhspan(100 - FLAT_PERCENT, 100 + FLAT_PERCENT, color="0.93")
        axis.axvline(report["rests"][report["asked"]["warm_up"]]["num_answered"], color="0.7", linestyle=":")
        for index, (process, memory) in enumerate(report["memory"].items()):
            color = f"C{index}"
            lines = [(x, 100 * mib[process] / memory["warm"]) for x, mib in report["samples"] if process in mib]
            axis.plot(*zip(*lines, strict=True), color=color, linewidth=0.6, alpha=0.6)
            points = [(rest["num_answered"], 100 * rest["mib"][process] / memory["warm"]) for rest in report["rests"]]
            axis.plot(*zip(*points, strict=True), ".", color=color, label=f"{process}, {memory['warm']:,.0f} MiB")
        axis.set(title=TITLES[name].replace("`", ""), xlabel="searches answered", ylabel="% of the memory when warm")
        axis.legend(loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)
