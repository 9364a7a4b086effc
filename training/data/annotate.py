"""`python -m training data annotate`: stage annotations from any OpenAI-compatible teacher."""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data.annotation.output import Report
    from training.data.annotation.usage import Prices

ABOUT = """\
Ask a teacher for the four stages of every assistant turn whose plain answer is known.

Every finished call is kept in OUT.journal.jsonl: a run that ended early, however it ended, goes on from there, and what
has been paid is not paid again. OUT is written at the end, OUT.refused.jsonl beside it says what is not in it and why.
The API key is read from the environment variable OPENAI_API_KEY."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "annotate",
        help="stage annotations from an OpenAI-compatible teacher",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="INPUT.jsonl", help="records whose gpt turns are the known answers")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the records' pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help="the annotated records")
    parser.add_argument("--base-url", required=True, metavar="URL", help="the API, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, metavar="NAME", help="the teacher's name")
    parser.add_argument(
        "--request",
        type=_object,
        default={},
        metavar="JSON",
        help='fields for every request, such as {"max_tokens": 4096}',
    )
    parser.add_argument(
        "--attempts",
        type=_positive,
        default=2,
        metavar="N",
        help="how often a turn is annotated until its annotation is good (default: %(default)s, as in the paper)",
    )
    parser.add_argument(
        "--concurrency", type=_positive, default=8, metavar="N", help="calls at once (default: %(default)s)"
    )
    parser.add_argument(
        "--requests-per-minute", type=_positive, metavar="N", help="at most so many (default: no limit)"
    )
    parser.add_argument(
        "--retries",
        type=_count,
        default=5,
        metavar="N",
        help="tries after a first one that failed: 429, 5xx, no answer or a broken one (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=_positive, default=300, metavar="S", help="seconds for one try (default: %(default)s)"
    )
    parser.add_argument("--price-in", type=_price, metavar="P", help="price of a million prompt tokens")
    parser.add_argument("--price-out", type=_price, metavar="P", help="price of a million completion tokens")
    parser.set_defaults(run=run_annotate)


def run_annotate(arguments: argparse.Namespace) -> None:
    """Exits with 1 and one line when the run cannot begin or go on, with 1 too when turns are left unanswered."""
    from training.data.annotation.errors import AnnotationError

    try:
        prices = _prices(arguments)
        report = asyncio.run(_annotate(arguments, prices))
    except (AnnotationError, OSError) as error:
        raise SystemExit(f"annotate: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(report.told(prices))
    if report.num_unanswered:
        raise SystemExit(1)


async def _annotate(arguments: argparse.Namespace, prices: "Prices | None") -> "Report":
    from training.data.annotation.errors import Stopped
    from training.data.annotation.journal import Journal
    from training.data.annotation.output import Output
    from training.data.annotation.pace import Pace
    from training.data.annotation.run import Run, wait_unless
    from training.data.annotation.teacher import Teacher

    _check(arguments)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    _stop_at_signals(loop, stopping)
    request = {**arguments.request, "model": arguments.model}
    wait = wait_unless(stopping)
    teacher = Teacher(
        arguments.base_url,
        request,
        arguments.images,
        Pace(arguments.requests_per_minute, wait, loop.time),
        wait,
        api_key=_api_key(),
        retries=arguments.retries,
        timeout_s=arguments.timeout,
    )
    with Journal(_beside(arguments.out, "journal"), asked=request) as journal:
        run = Run(arguments.input, journal, teacher, stopping, arguments.attempts, arguments.concurrency, prices)
        async with teacher:
            await run.ask_all()
        if stopping.is_set():
            raise Stopped(f"stopped with {len(journal):,} calls in {journal.path}; the same command goes on from there")
        output = Output(journal, arguments.attempts, run.unanswered)
        return output.write(arguments.input, arguments.out, _beside(arguments.out, "refused"))


def _check(arguments: argparse.Namespace) -> None:
    import httpx

    from training.data.annotation.errors import AnnotationError
    from training.data.annotation.turns import read_lines

    try:
        url = httpx.URL(arguments.base_url)
    except httpx.InvalidURL as error:
        raise AnnotationError(f"--base-url {arguments.base_url}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise AnnotationError(f"--base-url {arguments.base_url} is no http:// or https:// address")
    if not arguments.images.is_dir():
        raise AnnotationError(f"--images {arguments.images} is no folder")
    if not arguments.out.parent.is_dir():
        raise AnnotationError(f"--out {arguments.out}: there is no folder {arguments.out.parent}")
    if arguments.out.is_dir():
        raise AnnotationError(f"--out {arguments.out} is a folder")
    if arguments.input.resolve() == arguments.out.resolve():
        raise AnnotationError("--out is the input itself")
    try:
        empty = next(read_lines(arguments.input), None) is None
    except OSError as error:
        raise AnnotationError(f"cannot read {arguments.input}: {error.strerror}") from error
    if empty:
        raise AnnotationError(f"{arguments.input} holds no records")


def _api_key() -> str:
    from training.data.annotation.errors import AnnotationError

    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise AnnotationError("OPENAI_API_KEY holds characters that no key has")
    return key


def _stop_at_signals(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """The first signal lets the calls under way end, for they are paid; the second one does not."""

    def stop() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        stopping.set()
        print("\nstopping after the calls under way; once more to stop at once", file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop)


def _prices(arguments: argparse.Namespace) -> "Prices | None":
    from training.data.annotation.errors import AnnotationError
    from training.data.annotation.usage import Prices

    prices = (arguments.price_in, arguments.price_out)
    if prices == (None, None):
        return None
    if None in prices:
        raise AnnotationError("--price-in and --price-out go together")
    return Prices(*prices)


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}.{what}.jsonl")


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _count(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from {least} on")
    return int(text)


def _price(text: str) -> float:
    try:
        if 0 <= (price := float(text)) < float("inf"):
            return price
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is no price")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} is no JSON object")
    if ours := sorted({"model", "messages", "stream", "n"} & set(value)):
        raise argparse.ArgumentTypeError(f"{', '.join(ours)}: not to be set here")
    return value
