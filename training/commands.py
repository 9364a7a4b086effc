"""`python -m training sft`, `estimate` and `export`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SFT = """\
Teach a vision language model the four stages, as a config and `key=value` say.

The same command goes on where a run was stopped or killed. One process, many, or many nodes:
`accelerate launch [--config_file training/configs/accelerate/...] -m training sft ...`."""
EPILOG = """\
example:
  python -m training sft --config training/configs/qwen2_5_vl_7b.yaml \\
      data.train=train.jsonl data.images=images train.num_train_epochs=1"""


ESTIMATE = """\
What a run on H100s needs, before any is rented: a table of all configs, or the arithmetic of one.

Records are LLaVA-CoT-100k's, with pictures of 480 x 640; what is assumed is named where it is used."""


def add_sft(commands: Commands) -> None:
    parser = commands.add_parser(
        "sft",
        help="teach a model the four stages; goes on where it was stopped",
        description=SFT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="such as those in training/configs")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the config")
    parser.set_defaults(run=_sft)


def _sft(arguments: argparse.Namespace) -> None:
    from training.config import ConfigError, Run, load

    try:
        run = load(Run, arguments.config, arguments.overrides)
        from training.finetune import finetune  # which takes seconds to import

        finetune(run)
    except ConfigError as error:
        print(f"sft: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


EXPORT = """\
Write a folder that `swires serve` loads: whole weights, with LoRA adapters merged, as safetensors; processor, chat
template, the tokens that end an answer, and swires.json.

Writes the whole folder or nothing. `swires calibrate --model FOLDER` then measures its scorers."""


def add_estimate(commands: Commands) -> None:
    parser = commands.add_parser(
        "estimate",
        help="memory of each GPU and hours of a run on H100s, on paper",
        description=ESTIMATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="of one run, with the arithmetic")
    parser.add_argument("--gpus", type=int, default=8, help="H100s of 80 GB (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print numbers, in bytes and FLOPs")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the config")
    parser.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> None:
    from training.config import CONFIGS, ConfigError
    from training.estimate.cost import estimate  # which takes seconds to import
    from training.estimate.report import arithmetic, as_json, table

    files = [arguments.config] if arguments.config else sorted(CONFIGS.glob("*.yaml"))
    try:
        estimates = [estimate(file, arguments.overrides, gpus=arguments.gpus) for file in files]
    except ConfigError as error:
        print(f"estimate: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if arguments.json:
        print(json.dumps([as_json(one) for one in estimates], indent=2))
    else:
        print(arithmetic(estimates[0]) if arguments.config else table(estimates))


def add_export(commands: Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a run's model as a folder to serve",
        description=EXPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="of a run, of one of its checkpoints, or any model"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the new folder")
    parser.add_argument(
        "--tags",
        choices=("special", "text"),
        help="whether a stage tag is one token or plain text (default: as the run was told)",
    )
    parser.add_argument(
        "--verifier", action="store_true", help="the model can judge its stages (default: as its swires.json says)"
    )
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the weights (default %(default)s)"
    )
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from training.config import ConfigError
    from training.export import ExportError, export

    try:
        export(
            arguments.model,
            arguments.out,
            dtype=arguments.dtype,
            tags=arguments.tags,
            verifier=arguments.verifier,
        )
    except (ExportError, ConfigError) as error:
        print(f"export: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(f"Wrote {arguments.out}; `swires calibrate --model {arguments.out}` measures its scorers.")
