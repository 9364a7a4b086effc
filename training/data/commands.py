"""`python -m training data COMMAND`."""

import argparse
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from training.data import annotate

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SCENES = 1000
CHECK = """\
Look at every record and its picture, and count what cannot be trained on by its reason.

A record counts once, under the first reason that is met in any of its turns. Exits with 2 where the file cannot be
read."""


def add_data(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="data_command", required=True)
    _add_check(commands)
    _add_stats(commands)
    _add_preview(commands)
    _add_convert(commands)
    annotate.add_parser(commands)


def _add_check(commands: Commands) -> None:
    parser = commands.add_parser("check", help="count the records that can be trained on", description=CHECK)
    _add_file(parser)
    _add_images(parser)
    parser.add_argument("--json", action="store_true", help='print {"records", "kept", "rejected": {reason: n}}')
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a record is rejected")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from training.data.check import check

    with _failing_in_one_line():
        _demand_folder(arguments.images)
        report = check(arguments.file, arguments.images)
    print(json.dumps(report.as_json()) if arguments.json else report)
    if arguments.strict and report.num_rejected:
        raise SystemExit(1)


def _add_stats(commands: Commands) -> None:
    parser = commands.add_parser("stats", help="turns, lengths of the stages, sources of the pictures")
    _add_file(parser)
    parser.set_defaults(run=_stats)


def _stats(arguments: argparse.Namespace) -> None:
    from training.data.stats import measure

    with _failing_in_one_line():
        print(measure(arguments.file))


def _add_preview(commands: Commands) -> None:
    parser = commands.add_parser("preview", help="the first records as one HTML page, pictures in it")
    _add_file(parser)
    _add_images(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--count", type=_positive, default=20, metavar="N", help="records (default: %(default)s)")
    parser.set_defaults(run=_preview)


def _preview(arguments: argparse.Namespace) -> None:
    from training.data.preview import write_preview

    with _failing_in_one_line():
        _demand_folder(arguments.images)
        if arguments.out.resolve() == arguments.file.resolve():
            raise OSError(f"--out {arguments.out} is the file itself")
        count = write_preview(arguments.file, arguments.images, arguments.out, arguments.count)
    print(f"Wrote {count:,} records to {arguments.out}")


def _add_convert(commands: Commands) -> None:
    parser = commands.add_parser("convert", help="the demo tasks as records with pictures")
    tasks = parser.add_subparsers(dest="task", required=True)
    scenes = tasks.add_parser("scenes", help="scenes of coloured shapes, drawn at random")
    _add_out(scenes)
    scenes.add_argument("--count", type=_positive, default=SCENES, metavar="N", help="scenes (default: %(default)s)")
    scenes.add_argument("--seed", type=int, default=0, help="which scenes (default: %(default)s)")
    scenes.set_defaults(run=_convert_scenes)
    easy_vqa = tasks.add_parser("easy-vqa", help="the questions of easy-VQA's training split whose stages are known")
    _add_out(easy_vqa)
    easy_vqa.set_defaults(run=_convert_easy_vqa)


def _convert_scenes(arguments: argparse.Namespace) -> None:
    from itertools import islice

    from training.data.convert import write_records
    from training.tasks.scenes import scenes

    with _failing_in_one_line():
        examples = islice(scenes(arguments.seed), arguments.count)
        _tell(write_records("scenes", examples, arguments.out, arguments.count))


def _convert_easy_vqa(arguments: argparse.Namespace) -> None:
    from training.data.convert import write_records
    from training.tasks.easy_vqa import easy_vqa_examples

    with _failing_in_one_line():
        examples = easy_vqa_examples("train")
        _tell(write_records("easy-vqa", examples, arguments.out, len(examples)))


def _tell(file: Path) -> None:
    print(f"Wrote {file}; `python -m training data check {file} --images {file.parent}` looks at it.")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="records, a JSON object on each line")


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the records' pictures")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the records and pictures")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _demand_folder(images: Path) -> None:
    if not images.is_dir():
        raise OSError(f"--images {images} is no folder")


@contextmanager
def _failing_in_one_line() -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        print(f"data: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
