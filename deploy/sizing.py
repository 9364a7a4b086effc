"""Which accelerators a model and a preset need, by arithmetic: `python -m deploy.sizing --help`."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deploy.bench.simulate_cluster import Cluster
from deploy.bench.simulate_estimate import BYTES_PER_PARAMETER, Roofline
from deploy.bench.simulate_inputs import StepTimes, Workload
from deploy.bench.simulate_record import CLIENTS, closed_load, questions, recorded, serving
from deploy.bench.simulate_sweep import Sweep

HERE = Path(__file__).parent
SEARCHES = HERE / "sizing_searches"
STEP_TIMES = HERE / "bench" / "step_times.json"

GPU_MEMORY_UTILIZATION = 0.9
"""vLLM's default."""
RESERVED_BYTES = 3e9
"""Assumed for activations and the vision encoder's cache."""
MAX_NUM_SEQS = 256
ALL_REDUCE_S = 20e-6
"""Assumed, two a layer where a model is split."""
COLUMNS = (
    "model on",
    "weights, GB",
    "candidates at once",
    "mode",
    "alone, p95, s",
    "searches/s in time",
    "GPU-hours for 1,000 answers",
)


class Model(NamedTuple):
    """Of its public configuration: parameters of the language model and of the vision encoder, layers, key-value heads
    of 128 numbers each."""

    parameters: float
    vision_parameters: float
    layers: int
    kv_heads: int

    @property
    def weight_bytes(self) -> float:
        return BYTES_PER_PARAMETER * (self.parameters + self.vision_parameters)

    @property
    def cache_bytes_per_token(self) -> float:
        return 2 * self.layers * self.kv_heads * 128 * BYTES_PER_PARAMETER


class Accelerator(NamedTuple):
    """Of its data sheet: bytes, bytes/s, operations/s in bfloat16 without sparsity."""

    memory: float
    bandwidth: float
    flops: float


MODELS: Mapping[str, Model] = {
    "Qwen2.5-VL-3B": Model(3.1e9, 0.67e9, 36, 2),
    "Qwen2.5-VL-7B": Model(7.6e9, 0.67e9, 28, 4),
    "Qwen2.5-VL-32B": Model(32.5e9, 0.69e9, 64, 8),
    "Qwen2.5-VL-72B": Model(72.7e9, 0.7e9, 80, 8),
}
ACCELERATORS: Mapping[str, Accelerator] = {
    "L4": Accelerator(24e9, 300e9, 121e12),
    "L40S": Accelerator(48e9, 864e9, 362e12),
    "A100 80GB": Accelerator(80e9, 2.039e12, 312e12),
    "H100 SXM": Accelerator(80e9, 3.35e12, 989e12),
    "H200 SXM": Accelerator(141e9, 4.8e12, 989e12),
}
NODES: Sequence[tuple[str, int, str]] = (
    ("Qwen2.5-VL-3B", 1, "L4"),
    ("Qwen2.5-VL-7B", 1, "L4"),
    ("Qwen2.5-VL-7B", 1, "L40S"),
    ("Qwen2.5-VL-7B", 1, "A100 80GB"),
    ("Qwen2.5-VL-7B", 1, "H100 SXM"),
    ("Qwen2.5-VL-32B", 2, "H100 SXM"),
    ("Qwen2.5-VL-72B", 4, "H100 SXM"),
    ("Qwen2.5-VL-72B", 2, "H200 SXM"),
)
MODES: Mapping[str, Mapping[str, str]] = {
    "greedy": {"policy": "greedy"},
    "fast": {"preset": "fast"},
    "balanced": {"preset": "balanced"},
    "thorough": {"preset": "thorough"},
    "adaptive": {"policy": "adaptive"},
}
"""What a request says in `swires`: the presets are those of the policy `swires`, `adaptive` is at balanced."""
RECORD_S = 30
MAX_RECORDED = 100
GPU_BLOCK = 16
"""Tokens that vLLM caches together on a GPU."""


@dataclass(frozen=True)
class Node:
    """A model, split over `num` accelerators of one kind; a running request has about `context_tokens`."""

    name: str
    model: Model
    accelerator: Accelerator
    num: int
    context_tokens: float

    @property
    def cache_bytes(self) -> float:
        """What is left for the cache of keys and values."""
        return self.num * (self.accelerator.memory * GPU_MEMORY_UTILIZATION - RESERVED_BYTES) - self.model.weight_bytes

    @property
    def max_candidates(self) -> int:
        """As many as the cache holds, were no prefix shared; at most as many as vLLM runs by default."""
        each = self.context_tokens * self.model.cache_bytes_per_token
        return min(MAX_NUM_SEQS, int(self.cache_bytes / each))

    def step_times(self, *, front_request_s: float) -> StepTimes:
        standard = Roofline()
        return Roofline(
            parameters=self.model.parameters,
            cache_bytes_per_token=self.model.cache_bytes_per_token,
            context_tokens=self.context_tokens,
            vision_parameters=self.model.vision_parameters,
            bandwidth=self.accelerator.bandwidth * self.num,
            flops=self.accelerator.flops * self.num,
            overhead_s=standard.overhead_s + (2 * self.model.layers * ALL_REDUCE_S if self.num > 1 else 0),
        ).step_times(front_request_s=front_request_s)


@dataclass(frozen=True)
class Row:
    node: Node
    mode: str
    lone_s: float
    searches_per_s: float

    @property
    def gpu_hours(self) -> float:
        """That a thousand answers take of the node when it is as busy as it may be."""
        return 1000 / self.searches_per_s / 3600 * self.node.num

    def __str__(self) -> str:
        cells = (
            self.node.name,
            f"{self.node.model.weight_bytes / 1e9:.0f}",
            f"{self.node.max_candidates}",
            self.mode,
            f"{self.lone_s:.1f}",
            f"{self.searches_per_s:.2f}",
            f"{self.gpu_hours:.3f}",
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Assumed:
    """What answers are like: prompts of so many tokens, the picture's included, and stages so many times as long as
    the embedded checkpoint's, whose trees these are."""

    prompt_tokens: int = 1400
    length: float = 4
    num_searches: int = 600
    modes: Sequence[str] = tuple(MODES)

    def node(self, model: str, kind: str, num: int, accelerator: Accelerator) -> Node:
        """Raises ValueError where not even one candidate fits."""
        answer = Workload.read(SEARCHES / "greedy.json").tokens_per_search * self.length
        node = Node(f"{model} on {num} {kind}", MODELS[model], accelerator, num, self.prompt_tokens + answer)
        if node.max_candidates < 1:
            raise ValueError(f"{node.name}: weights of {node.model.weight_bytes / 1e9:.0f} GB leave no room; take more")
        return node

    def rows(self, node: Node) -> Iterator[Row]:
        times = node.step_times(front_request_s=StepTimes.read(STEP_TIMES).front_request_s)
        for mode in self.modes:
            searches = Workload.read(SEARCHES / f"{mode}.json")
            workload = searches.scaled(prompt_tokens=self.prompt_tokens, length=self.length)
            sweep = Sweep(times, workload, self.num_searches, node.max_candidates)
            yield Row(node, mode, sweep.lone_s, sweep.most_in_time(Cluster(1)).in_time_per_s)


DESCRIPTION = """Which accelerators a model and a preset need. No accelerator was measured for this: it is arithmetic.

  table    candidates that fit, seconds and GPU-hours, for each node and mode, as in deploy/operating.md
  one      the same for one model on your own numbers
  record   the trees of searches that both go by, from the embedded checkpoint on real vLLM, a minute for each mode

A step reads all weights and the cache of each running request, and multiplies each parameter once for each token (the
formula: python -m deploy.bench.simulate estimate --help). Recorded searches of each mode are replayed on such steps; a
node serves the greatest rate at which 95 % of answers come within twice what lone ones take."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print("sizing:", *str(error).split(), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.sizing",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="all nodes and modes")
    one = commands.add_parser("one", help="one model on one kind of accelerator")
    one.add_argument("--model", choices=MODELS, default="Qwen2.5-VL-7B", help="default %(default)s")
    one.add_argument("--accelerator", choices=ACCELERATORS, default="H100 SXM", help="default %(default)s")
    one.add_argument("--num", type=int, default=1, help="that the model is split over (default %(default)s)")
    one.add_argument("--memory", type=float, help="bytes of one, where yours is another")
    one.add_argument("--bandwidth", type=float, help="bytes/s of one")
    one.add_argument("--flops", type=float, help="operations/s of one, bfloat16 without sparsity")
    for command, run in ((table, run_table), (one, run_one)):
        command.set_defaults(run=run)
        command.add_argument(
            "--prompt-tokens", type=int, default=Assumed.prompt_tokens, help="with the picture's (default %(default)s)"
        )
        command.add_argument(
            "--length",
            type=float,
            default=Assumed.length,
            help="of stages, in times of the demo's (default %(default)s)",
        )
        command.add_argument("--modes", nargs="+", choices=MODES, default=tuple(MODES), help="default all")
    record = commands.add_parser("record", help="record the searches")
    record.set_defaults(run=run_record)
    record.add_argument("--model", default="training/checkpoints/demo", help="default %(default)s")
    record.add_argument("--core", type=int, default=0, help="for the engine (default %(default)s)")
    record.add_argument("--port", type=int, default=18441, help="default %(default)s")
    return parser


def run_table(options: argparse.Namespace) -> None:
    assumed = _assumed(options)
    _print_table(assumed, [assumed.node(model, kind, num, ACCELERATORS[kind]) for model, num, kind in NODES])


def run_one(options: argparse.Namespace) -> None:
    assumed = _assumed(options)
    given = {name: value for name in Accelerator._fields if (value := getattr(options, name)) is not None}
    accelerator = ACCELERATORS[options.accelerator]._replace(**given)
    _print_table(assumed, [assumed.node(options.model, options.accelerator, options.num, accelerator)])


def _assumed(options: argparse.Namespace) -> Assumed:
    return Assumed(options.prompt_tokens, options.length, modes=options.modes)


def _print_table(assumed: Assumed, nodes: Sequence[Node]) -> None:
    """In Markdown, each row as soon as it is known."""
    print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", sep="\n")
    for node in nodes:
        for row in assumed.rows(node):
            print(row, flush=True)


def run_record(options: argparse.Namespace) -> None:
    asyncio.run(_record(options.model, options.core, options.port))


async def _record(model: str, core: int, port: int) -> None:
    SEARCHES.mkdir(exist_ok=True)
    async with serving(model, core, port) as server:
        for mode, asked in MODES.items():
            answers = await closed_load(
                server.url, questions(model), RECORD_S, clients=CLIENTS, swires={**asked, "trace": True}
            )
            searches = tuple(recorded(each.told) for each in answers[:MAX_RECORDED])
            source = f"{mode} searches of the questions of {model}"
            workload = Workload(source=source, block=GPU_BLOCK, searches=searches)
            (SEARCHES / f"{mode}.json").write_text(workload.model_dump_json() + "\n")
            print(f"{mode}: {len(searches)} searches, {workload.tokens_per_search:.0f} tokens each")


if __name__ == "__main__":
    sys.exit(main())
