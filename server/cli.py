"""The `swires` command."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from server.ask import NO_IMAGE, Asking
from server.commands import QUESTIONS_FILE, run_ask, run_calibrate, run_new_key, run_rescore, run_serve
from server.numbers import NUMBERS
from server.settings import AskSettings, NewKey, Settings
from swires.errors import SwiresError

SERVE = """Serve a checkpoint over OpenAI's API.

Each option is also an environment variable, SWIRES_ and its name: SWIRES_MAX_IMAGES=2 is --max-images 2.
After `--` come vLLM's own engine options, as in `swires serve --model DIR -- --dtype float32 --max-num-seqs 64`."""

ASK = f"""Ask a question about an image. Its stages come as they are chosen, then the answer and what it took. In a
terminal, the candidates are shown while they are searched; into a pipe go stages and answer alone. {NO_IMAGE} for IMAGE
asks without one.

The server at --url is asked or, with --model, one in this process; after `--` come vLLM's own engine options."""

NEW_KEY = """Make a key for `swires serve --api-keys FILE`. It is printed once; the file gets its hash alone, and a
running server reads it at the next request. To take a key away, remove its line."""

CALIBRATE = """Measure the mean and the deviation of each scorer for each stage, and write them into the checkpoint's
swires.json, from which the server reads them. A reward model is a scorer too, where one is named.

After `--` come vLLM's own engine options."""

RESCORE = """Decide again over a stored search, with other numbers of its policy or by another scorer. Nothing is
generated.

FILE is an answer to a request with "swires": {"trace": true}, as JSON. Where the policy asks for candidates that its
tree does not hold, the answer is the best that it holds, and stopped_by is "tree". A scorer needs --model, for its
calibration; one that is shown the question needs --request too, and the verifier starts the checkpoint's engine.

After `--` come vLLM's own engine options."""

ENGINE_OPTIONS = ("engine", "engine_url", "max_cached_positions")

RESCORE_OPTIONS = (
    "model",
    *ENGINE_OPTIONS,
    "scorer_sees",
    "scorer_timeout_s",
    "reward_url",
    "reward_model",
    "reward_memory",
    "judge_url",
    "judge_model",
    "max_images",
)

ASK_OPTIONS = tuple(name for name in RESCORE_OPTIONS if name != "max_images")

CALIBRATE_OPTIONS = (*ENGINE_OPTIONS, "scorer_sees", "reward_url", "reward_model", "reward_memory")
"""Those of `serve`: what a scorer's scores depend on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A failure is one line on stderr and a status other than 0."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    options = vars(_parser().parse_args(given[:split]))
    run: Callable[[dict[str, str], Sequence[str]], None] = options.pop("run")
    try:
        run({name: value for name, value in options.items() if value is not None}, given[split + 1 :])
    except SwiresError as error:
        print(f"swires: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # where nothing can be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"swires: {where}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> Parser:
    parser = Parser(prog="swires", description="Staged answers about images, searched with SWIRES.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    as_written = argparse.RawDescriptionHelpFormatter

    serve = commands.add_parser("serve", help="serve a checkpoint", description=SERVE, formatter_class=as_written)
    serve.set_defaults(run=run_serve)
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            _add_option(serve, name, field)

    ask = commands.add_parser("ask", help="ask about an image", description=ASK, formatter_class=as_written)
    ask.set_defaults(run=run_ask)
    ask.add_argument("image", metavar="IMAGE", help="file with a PNG, JPEG, WEBP or GIF image")
    ask.add_argument("question", metavar="QUESTION")
    for name in ("preset", "policy", "scorer", "temperature", "seed"):
        _add_option(ask, name, Asking.model_fields[name])
    ask.add_argument("--json", action="store_const", const="", help="print the answer as the server's JSON")
    ask.add_argument("--trace", metavar="FILE", help="write the tree of candidates there, for `swires rescore`")
    ask.add_argument("--request", metavar="FILE", help="write the request there, for its --request")
    _add_option(ask, "url", AskSettings.model_fields["url"])
    for name in ASK_OPTIONS:
        _add_option(ask, name, Settings.model_fields[name])

    new = commands.add_parser("new-key", help="make an API key", description=NEW_KEY, formatter_class=as_written)
    new.set_defaults(run=run_new_key)
    new.add_argument("label", metavar="LABEL", help=NewKey.model_fields["label"].description)
    for name in ("api_keys", "searches", "tokens_per_minute"):
        _add_option(new, name, NewKey.model_fields[name])

    calibrate = commands.add_parser(
        "calibrate", help="measure a checkpoint's scorers", description=CALIBRATE, formatter_class=as_written
    )
    calibrate.set_defaults(run=run_calibrate)
    calibrate.add_argument("--model", required=True, metavar="DIR", help="directory of the checkpoint")
    calibrate.add_argument(
        "--questions",
        metavar="FILE",
        help='what to measure on, lines of {"image": FILE or data URL, "question": TEXT} '
        f"(default: {QUESTIONS_FILE} of the checkpoint)",
    )
    for name in CALIBRATE_OPTIONS:
        _add_option(calibrate, name, Settings.model_fields[name])

    rescore = commands.add_parser(
        "rescore", help="decide again over a stored search", description=RESCORE, formatter_class=as_written
    )
    rescore.set_defaults(run=run_rescore)
    rescore.add_argument("file", metavar="FILE", help="the answer, with its trace")
    rescore.add_argument("--scorer", metavar="NAME", help="score the candidates by it (default: the scores they have)")
    rescore.add_argument("--request", metavar="FILE", help="the request that was answered, as it was sent")
    rescore.add_argument("--json", action="store_const", const="", help="print JSON instead of a table")
    for name in NUMBERS:
        rescore.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help="number of the policy")
    for name in RESCORE_OPTIONS:
        _add_option(rescore, name, Settings.model_fields[name])
    return parser


def _add_option(parser: Parser, name: str, field: FieldInfo) -> None:
    kinds = (field.annotation, *get_args(field.annotation))
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    default = "" if field.is_required() or field.default in (None, ()) else f" (default: {field.default})"
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        metavar=f"{{{','.join(choices)}}}" if choices else "VALUE",
        help=f"{field.description}{default}",
    )
