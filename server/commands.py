"""What the commands do: start an engine and serve it, ask, measure scorers, or have them judge a stored search."""

import asyncio
import gc
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeAlias, TypeVar

import httpx
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from server import checkpoint, keys, logs, sample
from server.app import create_app
from server.ask import Asking, Json, Remote, connected
from server.checkpoint import Calibration, Checkpoint
from server.engine.opened import check_engine, opened_engine
from server.in_process import InProcess
from server.numbers import NUMBERS
from server.preflight import check_folder
from server.rescore import Asked, renumbered, report, rescored, table
from server.schemas import ChatRequest
from server.scorer.calibrate import calibrate
from server.scorer.offered import Beside, check_defaults, chosen_scorers, make_scorers, opened, scorers_beside
from server.scorer.questions import Question, read_questions
from server.serve import SIGNALS, bound, is_loopback, serve
from server.serving_engine import CheckpointEngine
from server.settings import AskSettings, Collector, NewKey, Settings
from server.stored import StoredSearch, load_images, read_request, read_search
from server.terminal import shown, view, waiting
from swires.budget import Budget
from swires.errors import SwiresError
from swires.plan import SearchPlan
from swires.replay import Replay, StoredScores, replay
from swires.types import Problem

if TYPE_CHECKING:
    from server.tracing import Tracing

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
QUESTIONS_FILE = "questions.jsonl"
READ_NO_QUESTION = ("likelihood", "consensus")
NOT_ASKED = Problem(None, 0)
"""What a tree was searched for, where nobody looks at it again."""

EXIT_S = 60
"""How long a dead engine may take to be stopped."""

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)
Server: TypeAlias = AbstractAsyncContextManager[httpx.AsyncClient]


class StartError(SwiresError):
    """Why a command cannot start, in one line."""


def run_serve(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    settings = read_settings(options)
    logs.set_up(settings.log_level, settings.log_format)
    settings, known = _serving(settings)
    if settings.api_keys is not None:
        keys.read(settings.api_keys)
    with _listening_socket(settings) as sock:
        _check_who_may(settings, sock)
        _end_at_once_on_signals()
        uvloop.run(_serve(settings, known, sock, engine_arguments))


def read_settings(options: dict[str, str]) -> Settings:
    """Raises StartError, naming the option at fault."""
    return _read(Settings, options)


def _read(kind: type[Model], options: Mapping[str, str]) -> Model:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        message = "is missing" if first["type"] == "missing" else first["msg"]
        raise StartError(f"{option}: {message}") from error


def _serving(settings: Settings, *, option: str = "--scorers") -> tuple[Settings, Checkpoint]:
    """What is to be served, with the scorers and the policy that it is fit for; `option` named the scorers."""
    _check_model(settings.model)
    known = _known(settings.model)
    beside = scorers_beside(settings)
    scorers = chosen_scorers(known, settings.scorers, beside=beside, sees=settings.scorer_sees, option=option)
    settings = settings.model_copy(update={"scorers": scorers})
    if not known.staged and "policy" not in settings.model_fields_set:
        settings = settings.model_copy(update={"policy": "best_of_n"})
    check_defaults(settings.policy, scorers[0], option=option)
    if Path(settings.model).is_dir() and settings.engine != "http":  # whose servers have the weights
        check_folder(Path(settings.model))
    return settings, known


def _check_model(model: str) -> None:
    if not Path(model).is_dir() and not HUB_ID.fullmatch(model):
        raise StartError(f"--model: there is no directory {model}")


def _known(model: str) -> Checkpoint:
    known = checkpoint.load(model)
    if known == Checkpoint() and not Path(model).is_dir():
        raise StartError(
            f"--model: the local Hugging Face cache has no {checkpoint.FILE_NAME} of {model}: "
            f"run `hf download {model}` or give a directory"
        )
    return known


def _listening_socket(settings: Settings) -> socket.socket:
    try:
        return bound(settings.host, settings.port)
    except OSError as error:
        raise StartError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


def _check_who_may(settings: Settings, sock: socket.socket) -> None:
    if settings.api_keys is None and not settings.allow_no_keys and not is_loopback(sock):
        raise StartError(
            f"--host: {settings.host} is not this machine alone: give --api-keys FILE, for which `swires new-key` "
            "makes keys, or --allow-no-keys true"
        )


async def _serve(settings: Settings, known: Checkpoint, sock: socket.socket, engine_arguments: Sequence[str]) -> None:
    async with _app(settings, known, engine_arguments) as app:
        await serve(app, sock, partial(_begin, sock, settings), on_fault=_end_soon)


@asynccontextmanager
async def _app(settings: Settings, known: Checkpoint, engine_arguments: Sequence[str]) -> AsyncGenerator[FastAPI, None]:
    collector = _collector(settings)
    ours = {"limit_mm_per_prompt": {"image": settings.max_images}, "served_model_name": settings.name}
    if collector.endpoint is not None:
        ours["otlp_traces_endpoint"] = collector.endpoint
    async with (
        _tracing(collector) as tracing,
        _engines(settings, settings.scorers, ours, engine_arguments) as (engine, beside),
    ):
        scorers = make_scorers(
            engine,
            known,
            settings.scorers,
            beside,
            sees=settings.scorer_sees,
            timeout_s=settings.scorer_timeout_s,
        )
        yield create_app(engine, scorers, settings, known.lengths, tracing)


def _collector(settings: Settings) -> Collector:
    try:
        collector = Collector()
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise StartError(f"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: {message}") from error
    return collector.model_copy(update={"endpoint": settings.otlp_traces_endpoint or collector.endpoint})


@asynccontextmanager
async def _tracing(collector: Collector) -> "AsyncGenerator[Tracing | None, None]":
    if collector.endpoint is None:
        yield None
        return
    try:
        from server.tracing import Tracing
    except ImportError as error:
        raise StartError(f"--otlp-traces-endpoint: {error}") from error
    async with Tracing.to(collector) as tracing:
        yield tracing


@asynccontextmanager
async def _engines(
    settings: Settings, scorers: Sequence[str], ours: Mapping[str, Any], arguments: Sequence[str]
) -> AsyncGenerator[tuple[CheckpointEngine, Beside], None]:
    """First what is soon told to be missing: other servers, then other models, then the checkpoint."""
    check_engine(settings, arguments)
    beside_reward_model = settings.reward_model is not None and "reward_model" in scorers
    async with (
        opened(settings, scorers) as beside,
        opened_engine(settings, ours, arguments, beside_reward_model=beside_reward_model) as engine,
    ):
        yield engine, beside


def run_ask(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    as_json = options.pop("json", None) is not None
    files = {name: Path(options.pop(name)) for name in ("request", "trace") if name in options}
    asking = _read(Asking, {name: options.pop(name) for name in Asking.model_fields if name in options})
    request = asking.request(live=not as_json, trace="trace" in files)
    for path in files.values():
        _write(path, b"", mode="ab")
    try:
        with _log_off_the_terminal() as stderr, _results_alone_on_stdout() as stdout:
            if "model" in options:
                server = _own_server(options, asking, engine_arguments, stderr)
            else:
                server = _other_server(options, engine_arguments)
            told = asyncio.run(_asked(request, server, stdout, stderr))
    except BrokenPipeError as error:
        raise StartError("nobody reads the answer") from error
    for name, path in files.items():
        _write(path, to_json(told[name]))


def _write(path: Path, data: bytes, *, mode: str = "wb") -> None:
    try:
        with path.open(mode) as file:
            file.write(data)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error


def _other_server(options: dict[str, str], engine_arguments: Sequence[str]) -> Server:
    for option in options.keys() - AskSettings.model_fields.keys():
        raise StartError(f"--{option.replace('_', '-')}: goes with --model")
    if engine_arguments:
        raise StartError("vLLM's options: go with --model")
    return connected(_read(AskSettings, options))


def _own_server(options: dict[str, str], asking: Asking, engine_arguments: Sequence[str], stderr: TextIO) -> Server:
    """It offers the scorer that is asked for, or what `swires serve` would."""
    if "url" in options:
        raise StartError("--url: is one server, --model another; give one of them")
    asked = {"scorers": asking.scorer, "policy": asking.policy}
    settings = read_settings({**options, **{name: value for name, value in asked.items() if value is not None}})
    settings, known = _serving(settings, option="--scorer" if asking.scorer else "--scorers")
    _end_at_once_on_signals()
    return _in_process(_app(settings, known, engine_arguments), stderr)


@asynccontextmanager
async def _in_process(
    starting: AbstractAsyncContextManager[FastAPI], stderr: TextIO
) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with AsyncExitStack() as stack:
        with waiting("starting the engine", stderr):
            app = await stack.enter_async_context(starting)
        async with httpx.AsyncClient(transport=InProcess(app), base_url="http://in-process") as client:
            yield client
        with waiting("stopping the engine", stderr):
            await stack.aclose()


async def _asked(request: Json, server: Server, stdout: TextIO, stderr: TextIO) -> dict[str, Json]:
    """The `request` as sent and, as the `trace`, the `swires` object of the answer, which is told on `stdout`."""
    async with server as client:
        remote = Remote(client)
        request = {"model": await remote.model(), **request}
        if request["stream"]:
            with view(stdout) as told:
                return {"request": request, "trace": await shown(remote.chunks(request), told)}
        with waiting("asking", stderr):
            answer = await remote.answer(request)
        print(to_json(answer).decode(), file=stdout, flush=True)
        return {"request": request, "trace": answer.get("swires", {})}


def run_new_key(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    if engine_arguments:
        raise StartError("vLLM's options: a key has none")
    asked = _read(NewKey, options)
    limits = {"searches": asked.searches, "tokens_per_minute": asked.tokens_per_minute}
    print(keys.add(asked.api_keys, asked.label, {name: limit for name, limit in limits.items() if limit is not None}))


def run_calibrate(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    model = Path(options["model"])
    if not model.is_dir():
        raise StartError(f"--model: there is no directory {model}")
    questions = read_questions(Path(options.pop("questions", model / QUESTIONS_FILE)))
    settings = read_settings(options)
    beside = [name for name in scorers_beside(settings) if name == "reward_model"]
    check_folder(model)
    _end_at_once_on_signals()
    calibrations = asyncio.run(_calibrate(settings, beside, questions, engine_arguments))
    for scorer, calibration in calibrations.items():
        for stage, usual in calibration.items():
            print(f"{scorer:20}{stage.name:12}mean {usual.mean:9.4f}  deviation {usual.std:8.4f}")
    print(f"Written to {model / checkpoint.FILE_NAME}")


async def _calibrate(
    settings: Settings, beside: Sequence[str], questions: Sequence[Question], engine_arguments: Sequence[str]
) -> dict[str, Calibration]:
    def tell(done: int) -> None:
        print(f"\rCalibrated on {done} of {len(questions)} questions", end="", file=sys.stderr, flush=True)

    async with _engines(settings, beside, {}, engine_arguments) as (engine, models):
        calibrations = await calibrate(
            settings.model, engine, questions, progress=tell, sees=settings.scorer_sees, classifier=models.classifier
        )
    print(file=sys.stderr)
    return calibrations


def run_rescore(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    search = read_search(Path(options.pop("file")))
    as_json = options.pop("json", None) is not None
    policy = renumbered(search, {name: options.pop(name) for name in NUMBERS if name in options})
    plan = SearchPlan(NOT_ASKED, policy, budget=Budget(max_generations=search.budget.max_generations))
    scorer = options.pop("scorer", None)
    if scorer is None:
        for option in options:
            raise StartError(f"--{option.replace('_', '-')}: goes with --scorer")
        nodes = search.nodes()
        replayed = asyncio.run(replay(plan, nodes, StoredScores(nodes)))
    else:
        request = read_request(Path(options.pop("request"))) if "request" in options else None
        settings = read_settings(options)
        _check_rescoring(search, scorer, request, settings)
        _end_at_once_on_signals()
        with _results_alone_on_stdout():
            replayed = asyncio.run(_rescored(search, plan, scorer, request, settings, engine_arguments))
    told = report(search, replayed, asdict(policy), scorer or search.scorer)
    print(to_json(told, inf_nan_mode="null").decode() if as_json else table(told))


def _check_rescoring(search: StoredSearch, scorer: str, request: ChatRequest | None, settings: Settings) -> None:
    _check_model(settings.model)
    beside = scorers_beside(settings)
    chosen_scorers(_known(settings.model), (scorer,), beside=beside, sees=settings.scorer_sees, option="--scorer")
    check_defaults(search.policy, scorer, option="--scorer")
    if request is None and scorer not in READ_NO_QUESTION:
        raise StartError(f"--request: is missing, {scorer} is shown the question and its images")
    if request is not None and scorer in READ_NO_QUESTION:
        raise StartError(f"--request: {scorer} is not shown the question")
    if scorer == "verifier" and Path(settings.model).is_dir():
        check_folder(Path(settings.model))


async def _rescored(
    search: StoredSearch,
    plan: SearchPlan,
    scorer: str,
    request: ChatRequest | None,
    settings: Settings,
    engine_arguments: Sequence[str],
) -> Replay:
    seen = [] if request is None else await load_images(request, settings)
    async with _scoring(settings, scorer, engine_arguments) as (engine, beside):
        known, timeout_s = checkpoint.load(settings.model), settings.scorer_timeout_s
        scorers = make_scorers(engine, known, (scorer,), beside, sees=settings.scorer_sees, timeout_s=timeout_s)
        asked = None if request is None else Asked(request, seen)
        return await rescored(search, plan, scorers[scorer], asked, engine)


@asynccontextmanager
async def _scoring(
    settings: Settings, scorer: str, engine_arguments: Sequence[str]
) -> AsyncGenerator[tuple[CheckpointEngine | None, Beside], None]:
    """What the scorer asks: of the checkpoint's engine, only the verifier does."""
    if scorer == "verifier":
        ours = {"limit_mm_per_prompt": {"image": settings.max_images}}
        async with _engines(settings, (scorer,), ours, engine_arguments) as (engine, beside):
            yield engine, beside
    elif engine_arguments:
        raise StartError(f"vLLM's options: {scorer} does not ask the checkpoint's engine")
    else:
        async with opened(settings, (scorer,)) as beside:
            yield None, beside


@contextmanager
def _results_alone_on_stdout() -> Generator[TextIO, None, None]:
    """vLLM and its processes log to stdout; for so long it is stderr, and what is yielded is stdout."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(results, "w", encoding=sys.stdout.encoding, errors="replace", closefd=False) as stdout:
            yield stdout
    finally:
        sys.stdout.flush()
        os.dup2(results, 1)
        os.close(results)


@contextmanager
def _log_off_the_terminal() -> Generator[TextIO, None, None]:
    """A terminal is for the answer: for so long, nothing is logged to one. What is yielded is stderr."""
    with os.fdopen(os.dup(2), "w", errors="replace") as stderr:
        if not stderr.isatty():
            yield stderr
            return
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield stderr
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)


def _begin(sock: socket.socket, settings: Settings) -> None:
    """Whatever has been loaded stays: for the collector to look through it again would hold up all answers at once."""
    gc.collect()
    gc.freeze()
    _greet(sock, settings)


def _greet(sock: socket.socket, settings: Settings) -> None:
    host, port, *_ = sock.getsockname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if settings.log_format == "json":
        logger.info("serving", extra={"facts": {"model": settings.name, "url": url}})
        return
    with suppress(OSError):  # a full disk is no reason not to serve
        print(f"\nServing {settings.name} at {url}\n\n{sample.curl(url, settings.name)}\n", flush=True)


def _end_at_once_on_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Before and after the server is up: vLLM starts in a thread that nothing interrupts, with processes of its own."""
    _end(128 + number)


def _end_soon(fault: str) -> None:
    """An engine that stands still may never be stopped, nor a thread of it be joined."""

    def end() -> None:
        with suppress(OSError):
            os.write(2, f"swires: {fault}\n".encode())
        _end(1)

    timer = threading.Timer(EXIT_S, end)
    timer.daemon = True
    timer.start()


def _end(status: int) -> NoReturn:
    for process in active_children():
        process.kill()
    os._exit(status)
