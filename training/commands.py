"""`python -m training sft`."""

import argparse
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
