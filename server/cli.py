"""The `swires` command."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import active_children
from types import FrameType
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from server import checkpoint, sample
from server.app import create_app
from server.checkpoint import Checkpoint
from server.engine.labels import LabelReader
from server.scorer.calibrated import Calibrated
from server.scorer.likelihood import Likelihood
from server.scorer.raw import RawScorer
from server.scorer.verifier import Verifier
from server.serve import SIGNALS, bound, serve
from server.settings import Settings
from swires.errors import SwiresError
from swires.protocols import Scorer

SERVE = """Serve a checkpoint over OpenAI's API.

Each option is also an environment variable, SWIRES_ and its name: SWIRES_MAX_IMAGES=2 is --max-images 2.
After `--` come vLLM's own engine options, as in `swires serve --model DIR -- --dtype float32 --max-num-seqs 64`."""


class StartError(Exception):
    """Why a command cannot start, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A failure is one line on stderr and a status other than 0."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    options = vars(_parser().parse_args(given[:split]))
    command = options.pop("command")
    try:
        command({name: value for name, value in options.items() if value is not None}, given[split + 1 :])
    except (StartError, SwiresError) as error:
        print(f"swires: {error}", file=sys.stderr)
        return 1
    return 0


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> Parser:
    parser = Parser(prog="swires", description="Staged answers about images, searched with SWIRES.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    as_written = argparse.RawDescriptionHelpFormatter
    serving = commands.add_parser("serve", help="serve a checkpoint", description=SERVE, formatter_class=as_written)
    serving.set_defaults(command=run_serve)
    for name, field in Settings.model_fields.items():
        _add_option(serving, name, field)
    return parser


def _add_option(parser: Parser, name: str, field: FieldInfo) -> None:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    default = "" if field.is_required() or field.default in (None, ()) else f" (default: {field.default})"
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        metavar=f"{{{','.join(choices)}}}" if choices else "VALUE",
        help=f"{field.description}{default}",
    )


def run_serve(options: dict[str, str], engine_arguments: Sequence[str]) -> None:
    settings = read_settings(options)
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    known = checkpoint.load(settings.model)
    if not known.staged and "policy" not in settings.model_fields_set:
        settings = settings.model_copy(update={"policy": "best_of_n"})
    with _listening_socket(settings) as sock:
        for number in SIGNALS:
            signal.signal(number, _end_at_once)
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


def _listening_socket(settings: Settings) -> socket.socket:
    try:
        return bound(settings.host, settings.port)
    except OSError as error:
        raise StartError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


async def _serve(settings: Settings, known: Checkpoint, sock: socket.socket, engine_arguments: Sequence[str]) -> None:
    from server.engine.vllm_engine import VllmEngine, engine_options  # seconds, which --help and mistakes need not take

    options: dict[str, Any] = {
        "limit_mm_per_prompt": {"image": settings.max_images},
        **engine_options(engine_arguments),
    }
    async with VllmEngine(settings.model, **options) as engine:
        app = create_app(engine, make_scorers(engine, known, settings.scorers), settings)
        await serve(app, sock, partial(_greet, sock, settings))


def make_scorers(engine: LabelReader, known: Checkpoint, names: Sequence[str]) -> dict[str, Scorer]:
    """The scorers by name, without names those that the checkpoint is calibrated for. Raises StartError."""
    raw: dict[str, RawScorer] = {"likelihood": Likelihood()}
    if known.verifier is not None:
        raw = {"verifier": Verifier(engine, known.verifier), **raw}
    for name in names:
        if name not in raw:
            raise StartError(f"--scorers: the checkpoint has no scorer {name!r}, only {', '.join(raw)}")
    chosen = names or [name for name in raw if name in known.calibration]
    if not chosen:
        raise StartError("the checkpoint has no calibrated scorer: run `swires calibrate` first")
    return {name: Calibrated(raw[name], known.calibration.get(name, {})) for name in chosen}


def _greet(sock: socket.socket, settings: Settings) -> None:
    host, port, *_ = sock.getsockname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"\nServing {settings.name} at {url}\n\n{sample.curl(url, settings.name)}\n", flush=True)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Before and after the server is up: vLLM starts in a thread that nothing interrupts, with processes of its own."""
    for process in active_children():
        process.terminate()
    os._exit(128 + number)
