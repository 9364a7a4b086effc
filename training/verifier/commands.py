"""`python -m training verifier COMMAND`."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SAMPLE = """\
Sample stages from a running server and roll each out to conclusions.

Of each problem so many summaries are sampled as there are trees, and of each summary a tree in which nothing is
dropped: captions, reasonings of each caption, a conclusion of each reasoning. A run that stopped, or was killed, goes
on from its record."""

LABEL = """\
Label sampled stages by the share of their rollouts that end right, and split the problems.

What reads the same after the same earlier stages is one stage, with the rollouts of all its copies. Writes
train.jsonl, with as many right as wrong ones of each stage, and heldout.jsonl, whose problems keep all of theirs."""

TRAIN = """\
Teach a model to judge its own stages, as a config and `key=value` say.

After each stage the server asks for the next token, "+" or "-"; that is what is learned, into the model's own weights
or into LoRA adapters of it, mixed with whole answers. The same command goes on where a run was stopped or killed.
`python -m training export` makes a folder to serve of what it leaves."""

SCORE = """\
Write a verifier that has learned with head=score as a reward model that vLLM serves as one that classifies.

Its only label is the probability that the newest stage of an answer leads to the right one: the sigmoid of a score of
the conversation's last token. `vllm serve FOLDER` serves it, and `swires serve` takes it as --reward-model."""

REPORT = """\
Measure checkpoints on held-out problems.

How well their verdicts tell right stages from wrong ones (AUC, of all pairs and of those from one problem, between
which a search chooses), how true the probabilities are (expected calibration error, right and wrong ones weighing the
same), and how often greedy answers are right. Writes report.json and reliability.png."""


def add_verifier(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="verifier_command", required=True)
    _add_sample(commands)
    _add_label(commands)
    _add_train(commands)
    _add_score(commands)
    _add_report(commands)


def _add_sample(commands: Commands) -> None:
    parser = _command(commands, "sample", "stages from a running server, rolled out to conclusions", SAMPLE, _sample)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument(
        "--problems",
        required=True,
        metavar="FILE|TASK",
        help='lines {"image": FILE or data URL, "question", "answer"}, or the demo task scenes or easy-vqa',
    )
    parser.add_argument("--record", type=Path, required=True, metavar="TREES.jsonl", help="where the trees go")
    _add_number(parser, "count", 0, "how many of the problems; 0 is all of a file and 500 scenes", least=0)
    _add_number(parser, "trees", 2, "summaries of a problem")
    _add_number(parser, "captions", 4, "captions of a summary")
    _add_number(parser, "reasonings", 2, "reasonings of a caption")
    parser.add_argument(
        "--temperature", type=float, default=0.7, metavar="T", help="of the samples (default: %(default)s)"
    )
    _add_number(parser, "concurrency", 8, "requests at once")
    _add_number(parser, "tries", 5, "how often a request is sent to a server that is busy or not there")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the demo task and of the samples (default: %(default)s)"
    )


def _sample(arguments: argparse.Namespace) -> None:
    from training.verifier.problem import read_problems
    from training.verifier.sample import Plan, sample

    problems = read_problems(arguments.problems, arguments.count, arguments.seed)
    plan = Plan(arguments.trees, arguments.captions, arguments.reasonings, arguments.temperature, arguments.seed)
    if arguments.record.exists():
        print(f"Goes on from {arguments.record}; trees of another checkpoint need another --record", file=sys.stderr)
    arguments.record.parent.mkdir(parents=True, exist_ok=True)
    asked = sample(
        arguments.url,
        problems,
        plan,
        concurrency=arguments.concurrency,
        tries=arguments.tries,
        record=arguments.record,
    )
    asyncio.run(asked)
    print(f"Trees of {len(problems):,} problems are in {arguments.record}; `verifier label` makes labels of them.")


def _add_label(commands: Commands) -> None:
    parser = _command(commands, "label", "labels for sampled stages", LABEL, _label)
    parser.add_argument("record", type=Path, metavar="TREES.jsonl", help="what `verifier sample` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the labels")
    _add_share(parser, "threshold", 0.5, "a stage is right from this share of right rollouts on")
    _add_share(parser, "margin", 0.25, "shares closer to the threshold are left out as ambiguous; 0 keeps all")
    _add_share(parser, "held-out", 0.2, "share of the problems that is held out")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the balance (default: %(default)s)")


def _label(arguments: argparse.Namespace) -> None:
    from training.verifier.label import Rule, label

    rule = Rule(arguments.threshold, arguments.margin)
    print(label(arguments.record, arguments.out, rule, held_out=arguments.held_out, seed=arguments.seed))


def _add_train(commands: Commands) -> None:
    parser = _command(commands, "train", "teach a model to judge its own stages", TRAIN, _train)
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="such as those in training/configs/verifier"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the config")


def _train(arguments: argparse.Namespace) -> None:
    from training.config import load
    from training.verifier.config import VerifierRun

    run = load(VerifierRun, arguments.config, arguments.overrides)
    from training.verifier.train import train  # which takes seconds to import

    print(f"The verifier is in {train(run)}; `python -m training export` makes a folder to serve of it.")


def _add_score(commands: Commands) -> None:
    parser = _command(commands, "score", "write a verifier as a reward model that vLLM serves", SCORE, _score)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="a verifier that `training export` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the new folder")


def _score(arguments: argparse.Namespace) -> None:
    from training.verifier.score import write_score_model

    write_score_model(arguments.model, arguments.out)
    print(f"Wrote {arguments.out}; `vllm serve {arguments.out}` serves it.")


def _add_report(commands: Commands) -> None:
    parser = _command(commands, "report", "measure verifiers on held-out problems", REPORT, _report)
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="heldout.jsonl of `verifier label`")
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        type=_named,
        metavar="NAME=FOLDER",
        help="checkpoints, such as before=... after=...",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--head", choices=("token", "score"), default="token", help="which they have learned (default: %(default)s)"
    )
    _add_number(parser, "answers", 200, "problems to answer", least=0)
    _add_number(parser, "batch", 16, "stages and answers at once")
    _add_number(parser, "max-new-tokens", 2048, "tokens of an answer")


def _report(arguments: argparse.Namespace) -> None:
    from training.verifier.report import report

    print(
        report(
            arguments.labels,
            dict(arguments.models),
            arguments.out,
            head=arguments.head,
            answers=arguments.answers,
            batch=arguments.batch,
            max_new_tokens=arguments.max_new_tokens,
        )
    )


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=FOLDER")
    return name, Path(folder)


def _command(
    commands: Commands, name: str, short: str, about: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=short, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=lambda arguments: _told_in_one_line(run, arguments))
    return parser


def _told_in_one_line(run: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    from training.config import ConfigError
    from training.verifier.errors import VerifierError

    try:
        run(arguments)
    except (VerifierError, ConfigError, OSError) as error:
        raise SystemExit(f"verifier: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _add_number(parser: argparse.ArgumentParser, name: str, default: int, about: str, least: int = 1) -> None:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise ValueError(text)
        return value

    parser.add_argument(f"--{name}", type=number, default=default, metavar="N", help=f"{about} (default: %(default)s)")


def _add_share(parser: argparse.ArgumentParser, name: str, default: float, about: str) -> None:
    def share(text: str) -> float:
        if not 0 <= (value := float(text)) <= 1:
            raise ValueError(text)
        return value

    parser.add_argument(f"--{name}", type=share, default=default, metavar="S", help=f"{about} (default: %(default)s)")
