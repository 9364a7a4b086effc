"""`python -m training COMMAND`: makes checkpoints and measures them."""

import argparse
import asyncio
import sys
from pathlib import Path

from training.commands import add_export, add_sft
from training.data.commands import add_data
from training.verifier.commands import add_verifier


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(
        commands.add_parser("demo", help="train the embedded checkpoint from its recipe; goes on where it was stopped")
    )
    _add_evaluate(commands.add_parser("evaluate", help="accuracy and cost of policies, through a running server"))
    add_sft(commands)
    add_export(commands)
    add_data(commands.add_parser("data", help="check, measure, look at, make and annotate training data"))
    add_verifier(commands.add_parser("verifier", help="sample, label and train a verifier of stages, and measure it"))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("training/checkpoints/demo"), help="folder of the checkpoint")
    parser.add_argument("--work", type=Path, default=Path("training/runs/demo"), help="folder of the run's own state")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, problems and samples")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> None:
    import torch

    from training.demo.curve import draw_curve
    from training.demo.run import DemoRun, Recipe

    torch.set_num_threads(arguments.threads)
    recipe = Recipe(seed=arguments.seed)
    run = DemoRun(arguments.work, recipe)
    run.run()
    run.export(arguments.out)
    draw_curve(arguments.work / "history.jsonl", arguments.out / "curve.png", recipe.judging_from)
    print(f"Wrote {arguments.out}; `swires calibrate --model {arguments.out}` adds the calibration of its verifier.")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=("scenes", "easy-vqa"), help="demo scenes, or easy-VQA's official test split")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default %(default)s)")
    parser.add_argument(
        "--policies",
        nargs="+",
        default=["greedy", "swires"],
        metavar="POLICY[:KEY=VALUE,...]",
        help="ways to answer, with fields of the request's `swires` object; the others are compared to the first",
    )
    parser.add_argument(
        "--problems", type=int, default=500, help="how many; 0 is all of easy-VQA's (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=777, help="which scenes, or which questions (default %(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight (default %(default)s)")
    parser.add_argument("--record", type=Path, help="JSONL file of the answers; a run that stopped goes on from it")
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.evaluate import Arm, EvaluationError, evaluate, problems, table

    arms = [Arm.parse(text) for text in arguments.policies]
    record = arguments.record or Path(f"training/runs/{arguments.task}-{arguments.problems}-{arguments.seed}.jsonl")
    record.parent.mkdir(parents=True, exist_ok=True)
    examples = problems(arguments.task, arguments.problems, arguments.seed)
    if record.exists():
        print(f"Goes on from {record}; answers of another checkpoint need another --record", file=sys.stderr)
    asked = evaluate(
        arguments.url, examples, arms, seed=arguments.seed, concurrency=arguments.concurrency, record=record
    )
    try:
        answers = asyncio.run(asked)
    except EvaluationError as error:
        sys.exit(f"evaluate: {error}")
    print(f"{arguments.task}, {len(examples)} problems, seed {arguments.seed}\n{table(answers, arms)}")


if __name__ == "__main__":
    main()
