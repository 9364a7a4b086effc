"""The page of the options, made from the settings, the presets and the command line."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from server.cli import _parser
from server.numbers import make_policy
from server.presets import EFFORTS, PRESETS
from server.settings import PolicyName, PresetName, Settings
from tests.server.docs.pages import ROOT

PAGE = ROOT / "server/docs/options.md"

SIGNS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}

HEAD = """\
# Options

This page is made from the code by `make docs-options`; a test fails when it is out of date.

## `swires serve`

Each option is an environment variable too: `SWIRES_` and its name, so `--max-images 2` is `SWIRES_MAX_IMAGES=2`. The
command line goes over the environment. What a value may not be is said at the start, in one line that names the option.

What stands after `--` goes to vLLM, whose own options are all there: `swires serve --model DIR -- --dtype float32`. On
vLLM's side some are set already, and may be set otherwise: `--limit-mm-per-prompt` by `--max-images`,
`--served-model-name` by `--served-name`, `--otlp-traces-endpoint` by ours of that name, `--logging-config` by
`--log-format json`, and, beside a `--reward-model`, `--gpu-memory-utilization`.

Keys are read from the environment alone, since a command line is seen by all users of a machine:
{secrets}.
"""

PRESETS_HEAD = """\
## What a preset stands for

A request names a preset and, over it, any number of its policy ([what they mean](search.md)). *Generations* is how many
candidates such a search samples, at least and at most. OpenAI's `reasoning_effort` chooses too:
{efforts}.
"""

COMMANDS_HEAD = """\
## The other commands
"""


def page() -> str:
    """All of it."""
    parts = [HEAD.format(secrets=secrets()), serve_table(), presets_section(), commands_section()]
    return "\n".join(parts)


def secrets() -> str:
    return ", ".join(f"`{as_variable(name)}`" for name, field in Settings.model_fields.items() if field.exclude)


def serve_table() -> str:
    rows = [
        (f"`{as_option(name)}`", _default(field), _values(field), field.description or "")
        for name, field in Settings.model_fields.items()
        if not field.exclude
    ]
    return table(("option", "default", "values", "meaning"), rows)


def presets_section() -> str:
    efforts = ", ".join(f"`{effort}` is `{mode}`" for effort, mode in EFFORTS.items())
    rows = [_preset_row(name, preset) for name in get_args(PolicyName) for preset in PRESETS]
    return PRESETS_HEAD.format(efforts=efforts) + "\n" + table(("policy", "preset", "numbers", "generations"), rows)


def _preset_row(name: PolicyName, preset: PresetName) -> Sequence[str]:
    policy = make_policy(name, PRESETS[preset][name], {})
    numbers = {key: value for key, value in asdict(policy).items() if value is not None and value is not False}
    told = ", ".join(f"`{key}` {value:g}" for key, value in numbers.items())
    return f"`{name}`", f"`{preset}`", told, _spread(policy.least_generations, policy.most_generations)


def _spread(least: int, most: int | None) -> str:
    return str(least) if least == most else f"{least} to {most or 'the limit of the budget'}"


def commands_section() -> str:
    commands = {name: parser for name, parser in _commands().items() if name != "serve"}
    return COMMANDS_HEAD + "".join(f"\n### `swires {name}`\n\n{_command(parser)}" for name, parser in commands.items())


def _commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(subparsers.choices)


def _command(parser: argparse.ArgumentParser) -> str:
    rows = [
        (f"`{action.option_strings[0] if action.option_strings else action.metavar}`", action.help or "")
        for action in parser._actions
        if action.dest != "help"
    ]
    return f"{parser.description}\n\n{table(('option', 'meaning'), rows)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def as_variable(name: str) -> str:
    return f"SWIRES_{name.upper()}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    return "" if field.default in (None, ()) else f"`{str(field.default).lower()}`"


def _values(field: FieldInfo) -> str:
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not NoneType]
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if bool in kinds:
        return "`true`, `false`"
    return ", ".join(_bounds(field.metadata))


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for bound in metadata:
        for name, words in SIGNS.items():
            if (value := getattr(bound, name, None)) is not None:
                yield f"{words} {value:,}".replace(",", " ")
