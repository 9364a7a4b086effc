"""The rows of the table: how each is asked a question, and of which processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deploy.bench.closed_loop import Answered, Ask
from deploy.bench.lengths import length
from deploy.bench.naive import Calls, Chat, Search
from deploy.bench.ours import ask_ours, ask_vllm
from deploy.bench.processes import BenchError, Child, Server, child, python, server
from deploy.bench.questions import Question
from deploy.bench.schedule import BALANCED, ONE_ROUND
from server.checkpoint import Checkpoint, load
from swires.stages import Stage

Named: TypeAlias = Literal["vllm", "ours", "in-process", "its_hub", "reference"]
RIVALS = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"
"""Of an environment of their own; `python3 -m deploy.bench.install .venv-bench` makes it."""

CANDIDATES, KEEP = 4, 2
"""Of best-of-N and of the stage beam, ours and its_hub's."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The processes that run, by their names."""

    running: Mapping[Named, Server | Child]
    checkpoint: Checkpoint
    fixed: bool

    def server(self, name: Named) -> Server:
        found = self.running[name]
        assert isinstance(found, Server)
        return found

    def child(self, name: Named) -> Child:
        found = self.running[name]
        assert isinstance(found, Child)
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """`engine` is the process whose engine answers; `through` one that stands between the client and it."""

    about: str
    engine: Named
    ask: Callable[[Fleet], Ask]
    through: Named | None = None
    most_searches: int | None = None
    prepare: Callable[[Fleet, Question], Awaitable[None]] | None = None
    can_be_fixed: bool = True

    @property
    def processes(self) -> tuple[Named, ...]:
        return (self.engine,) if self.through is None else (self.engine, self.through)


def ours(**swires: Any) -> Callable[[Fleet], Ask]:
    def ask(fleet: Fleet) -> Ask:
        shell = fleet.server("ours")
        asked = swires | ({"max_retraces": 0} if fleet.fixed and not swires.get("policy") else {})
        return partial(ask_ours, shell.session, shell.url, asked)

    return ask


def plain_vllm(fleet: Fleet) -> Ask:
    engine = fleet.server("vllm")
    ends: dict[str, Any] = {"stop": [Stage.CONCLUSION.closing]}
    if fleet.fixed:
        ends = {"ignore_eos": True, "max_completion_tokens": length(fleet.checkpoint.lengths, Stage.CONCLUSION)}
    return partial(ask_vllm, engine.session, engine.url, ends)


def naive(calls: Calls) -> Callable[[Fleet], Ask]:
    def ask(fleet: Fleet) -> Ask:
        engine = fleet.server("vllm")
        chat = Chat(engine.session, engine.url, fleet.checkpoint, fleet.fixed)
        policy = ONE_ROUND if fleet.fixed else BALANCED

        async def one(question: Question) -> Answered:
            return await Search(chat, question, calls).run(policy)

        return one

    return ask


def of_child(name: Named, row: str, **more: Any) -> Callable[[Fleet], Ask]:
    def ask(fleet: Fleet) -> Ask:
        process = fleet.child(name)

        async def one(question: Question) -> Answered:
            return Answered(**await process.ask({"row": row, **more, **question.told()}))

        return one

    return ask


async def know_tree(fleet: Fleet, question: Question) -> None:
    await fleet.child("in-process").ask({"row": "tree", **question.told()})


ROWS: Mapping[str, Row] = {
    "plain-vllm": Row("greedy chat on vLLM's own server", "vllm", plain_vllm),
    "plain-ours": Row("the same through our server: policy greedy", "ours", ours(policy="greedy")),
    "ours-inprocess": Row("the search as a library, preset balanced", "in-process", of_child("in-process", "search")),
    "ceiling": Row(
        "all sequences of that search, and what its scorer read, submitted to the bare engine at once",
        "in-process",
        of_child("in-process", "ceiling", scored=True),
        prepare=know_tree,
    ),
    "ceiling-unscored": Row(
        "the same without what the scorer read",
        "in-process",
        of_child("in-process", "ceiling", scored=False),
        prepare=know_tree,
    ),
    "ours-http": Row("our server, preset balanced", "ours", ours()),
    "ours-likelihood": Row("our server, scored by likelihood", "ours", ours(scorer="likelihood")),
    "ours-adaptive": Row("our server, policy adaptive", "ours", ours(policy="adaptive")),
    "naive-stage": Row("the schedule over HTTP against vLLM's server, a call a stage with n", "vllm", naive("stage")),
    "naive-gathered": Row("a call a candidate, those of a stage at once", "vllm", naive("gathered")),
    "naive-candidate": Row("a call a candidate, each after the one before", "vllm", naive("candidate")),
    "ours-best-of-n": Row("our server, best of four", "ours", ours(policy="best_of_n", candidates=CANDIDATES)),
    "its_hub-best-of-n": Row(
        "its_hub's, as many", "vllm", of_child("its_hub", "best-of-n"), through="its_hub", can_be_fixed=False
    ),
    "ours-stage-beam": Row(
        "our server, four candidates a stage of which two are kept; two summaries, as its_hub begins",
        "ours",
        ours(policy="stage_beam", candidates=CANDIDATES, keep=KEEP, stages={"SUMMARY": {"candidates": KEEP}}),
    ),
    "its_hub-beam": Row(
        "its_hub's beam search, as many", "vllm", of_child("its_hub", "beam"), through="its_hub",
        can_be_fixed=False,
    ),
    "reference-loop": Row(
        "the schedule as published: transformers generate, one candidate at a time, the image encoded again each time",
        "reference",
        of_child("reference", "search"),
        most_searches=2,
    ),
}  # fmt: skip


@asynccontextmanager
async def fleet(rows: Sequence[Row], model: Path, port: int, *, fixed: bool) -> AsyncIterator[Fleet]:
    """All that the rows need, until the context ends. Raises BenchError where one does not start."""
    needed = dict.fromkeys(name for row in rows for name in row.processes)
    urls: Mapping[Named, str] = {"vllm": f"http://127.0.0.1:{port}", "ours": f"http://127.0.0.1:{port + 1}"}
    async with AsyncExitStack() as stack:
        starting = {
            name: _server(name, model, urls[name], fixed) if name in urls else _child(name, model, urls["vllm"], fixed)
            for name in needed
        }
        started = await asyncio.gather(*(stack.enter_async_context(each) for each in starting.values()))
        yield Fleet(dict(zip(needed, started, strict=True)), load(str(model)), fixed)


def _server(name: Named, model: Path, url: str, fixed: bool) -> Any:
    port = url.rpartition(":")[2]
    if name == "vllm":
        more = ["--served-model-name", "demo", "--block-size", "32", "--limit-mm-per-prompt", '{"image": 1}']
        entry = "vllm.entrypoints.launchers.api_server.entry"
        quiet = ["--disable-uvicorn-access-log"]
        return server(python(entry, "--model", str(model), "--port", port, *more, *quiet), url, "/health")
    module = "deploy.bench.fixed" if fixed else "server"
    options = ["--model", str(model), "--port", port, "--served-name", "demo", "--log-level", "error"]
    roomy = ["--scorers", "verifier,likelihood", "--max-waiting", "256", "--timeout-s", "600"]
    return server(python(module, "serve", *options, *roomy), url, "/ready")


def _child(name: Named, model: Path, vllm_url: str, fixed: bool) -> Any:
    more = ["--fixed"] if fixed else []
    match name:
        case "in-process":
            return child(python("deploy.bench.in_process", "--model", str(model), *more))
        case "reference":
            return child(python("deploy.bench.reference", "--model", str(model), *more))
        case "its_hub" if RIVALS.exists():
            return child(
                python("deploy.bench.its_hub_rows", "--model", str(model), "--url", vllm_url, executable=str(RIVALS))
            )
    raise BenchError(f"{name} needs an environment of its own: python3 -m deploy.bench.install .venv-bench")


def chosen(names: Sequence[str] | None, *, fixed: bool) -> dict[str, Row]:
    """The rows of these names in the table's order, all if there are none. Raises BenchError for an unknown one."""
    unknown = sorted(set(names or ()) - set(ROWS))
    if unknown:
        raise BenchError(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return {name: row for name, row in ROWS.items() if name in (names or ROWS) and (row.can_be_fixed or not fixed)}
