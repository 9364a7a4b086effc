"""`python -m training COMMAND`: makes checkpoints and measures them."""

import argparse
from pathlib import Path

from training.commands import add_estimate, add_export, add_sft
from training.data.commands import add_data
from training.evaluation.commands import add_evaluate, add_oracle
from training.verifier.commands import add_verifier


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(
        commands.add_parser("demo", help="train the embedded checkpoint from its recipe; goes on where it was stopped")
    )
    add_evaluate(commands.add_parser("evaluate", help="accuracy and cost of policies, through a running server"))
    add_oracle(commands.add_parser("oracle", help="serve a scorer that knows the truth, for an upper bound"))
    add_sft(commands)
    add_estimate(commands)
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


if __name__ == "__main__":
    main()
