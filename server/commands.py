"""What the commands do: start an engine and serve it, or measure its scorers."""

import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from server import checkpoint, sample
from server.app import create_app
from server.checkpoint import Calibration, Checkpoint
from server.engine.labels import LabelReader
from server.preflight import check_folder
from server.scorer.calibrate import calibrate
from server.scorer.calibrated import Calibrated, require_all_stages
from server.scorer.consensus import Consensus
from server.scorer.questions import Question, read_questions
from server.scorer.raw import raw_scorers
from server.serve import SIGNALS, bound, serve
from server.settings import Settings
from swires.errors import SwiresError
from swires.protocols import Scorer

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
QUESTIONS_FILE = "questions.jsonl"


class StartError(SwiresError):
    """Why a command cannot start, in one line."""


def run_serve(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    settings = read_settings(options)
    _check_model(settings.model)
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    known = _known(settings.model)
    settings = settings.model_copy(update={"scorers": chosen_scorers(known, settings.scorers)})
    if not known.staged and "policy" not in settings.model_fields_set:
        settings = settings.model_copy(update={"policy": "best_of_n"})
    if Path(settings.model).is_dir():
        check_folder(Path(settings.model))
    with _listening_socket(settings) as sock:
        _end_at_once_on_signals()
        asyncio.run(_serve(settings, known, sock, engine_arguments))


def read_settings(options: dict[str, str]) -> Settings:
    """Raises StartError, naming the option at fault."""
    try:
        return Settings.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        message = "is missing" if first["type"] == "missing" else first["msg"]
        raise StartError(f"{option}: {message}") from error


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


async def _serve(settings: Settings, known: Checkpoint, sock: socket.socket, engine_arguments: Sequence[str]) -> None:
    from server.engine.vllm_engine import VllmEngine, engine_options  # seconds, which --help and mistakes need not take

    ours = {"limit_mm_per_prompt": {"image": settings.max_images}, "served_model_name": settings.name}
    options: dict[str, Any] = {**ours, **engine_options(engine_arguments)}
    async with VllmEngine(settings.model, **options) as engine:
        app = create_app(engine, make_scorers(engine, known, settings.scorers), settings)
        await serve(app, sock, partial(_greet, sock, settings))


def run_calibrate(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    model = Path(options["model"])
    if not model.is_dir():
        raise StartError(f"--model: there is no directory {model}")
    questions = read_questions(Path(options.get("questions", model / QUESTIONS_FILE)))
    check_folder(model)
    _end_at_once_on_signals()
    calibrations = asyncio.run(_calibrate(str(model), questions, engine_arguments))
    for scorer, calibration in calibrations.items():
        for stage, usual in calibration.items():
            print(f"{scorer:12}{stage.name:12}mean {usual.mean:9.4f}  deviation {usual.std:8.4f}")
    print(f"Written to {model / checkpoint.FILE_NAME}")


async def _calibrate(
    model: str, questions: Sequence[Question], engine_arguments: Sequence[str]
) -> dict[str, Calibration]:
    from server.engine.vllm_engine import VllmEngine, engine_options

    def tell(done: int) -> None:
        print(f"\rCalibrated on {done} of {len(questions)} questions", end="", file=sys.stderr, flush=True)

    async with VllmEngine(model, **engine_options(engine_arguments)) as engine:
        calibrations = await calibrate(model, engine, questions, progress=tell)
    print(file=sys.stderr)
    return calibrations


def chosen_scorers(known: Checkpoint, names: Sequence[str]) -> tuple[str, ...]:
    """The scorers to offer, without names all that are ready, the best first. Raises StartError, ScorerError."""
    possible = ("likelihood", "consensus") if known.verifier is None else ("verifier", "likelihood", "consensus")
    for name in names:
        if name not in possible:
            raise StartError(f"--scorers: the checkpoint has no scorer {name!r}, only {', '.join(possible)}")
    if not names and known.staged and not known.calibration:
        raise StartError("no scorer is calibrated: run `swires calibrate` first, or choose --scorers consensus")
    for name in names:
        if name != "consensus":
            require_all_stages(known.calibration.get(name, {}))
    return tuple(names) or tuple(name for name in possible if name in {*known.calibration, "consensus"})


def make_scorers(engine: LabelReader, known: Checkpoint, names: Sequence[str]) -> dict[str, Scorer]:
    """The scorers `names`, which are among those of the checkpoint. Raises ScorerError."""
    raw = raw_scorers(engine, known)
    return {
        name: Consensus() if name == "consensus" else Calibrated(raw[name], known.calibration[name]) for name in names
    }


def _greet(sock: socket.socket, settings: Settings) -> None:
    host, port, *_ = sock.getsockname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"\nServing {settings.name} at {url}\n\n{sample.curl(url, settings.name)}\n", flush=True)


def _end_at_once_on_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Before and after the server is up: vLLM starts in a thread that nothing interrupts, with processes of its own."""
    for process in active_children():
        process.kill()
    os._exit(128 + number)
