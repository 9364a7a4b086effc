"""The stages of a Dockerfile, read by BuildKit's own parser, and what a container of each is told."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import dockerfile

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Step:
    """`exec_form` is a JSON list, which no shell reads; `flags` are without their dashes."""

    name: str
    words: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    exec_form: bool

    def flag(self, name: str) -> str | None:
        return dict(self.flags).get(name)


@dataclass(frozen=True)
class Stage:
    base: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Config:
    """What an image tells whoever runs it; `arguments` are what its later steps see of the build's."""

    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: Step | None = None
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""

    def expanded(self, text: str) -> str:
        return expanded(text, {**self.arguments, **self.env})


def read(path: Path, given: Mapping[str, str]) -> dict[str, Stage]:
    """By name; `given` are arguments of the build, which stand for the defaults in the file."""
    first = Config()
    found: dict[str, Stage] = {}
    name = ""
    for step in map(_step, dockerfile.parse_file(str(path))):
        if step.name == "from":
            base, _, name = step.words
            found[name] = Stage(first.expanded(base), ())
        elif not name:
            first = configured(first, step, given)
        else:
            step = _with_default(step, first.arguments)
            found[name] = replace(found[name], steps=(*found[name].steps, step))
    return found


def config(stages: Mapping[str, Stage], name: str, given: Mapping[str, str]) -> Config:
    """What a container of the stage is told, without its files."""
    if name not in stages:
        return Config()
    before = replace(config(stages, stages[name].base, given), arguments={})
    return reduce(lambda so_far, step: configured(so_far, step, given), stages[name].steps, before)


def configured(config: Config, step: Step, given: Mapping[str, str]) -> Config:
    """After a step; those that change files alone change nothing here."""
    words = tuple(map(config.expanded, step.words))
    changes: dict[str, Callable[[], Config]] = {
        "arg": lambda: replace(config, arguments={**config.arguments, **_argument(words[0], given)}),
        "env": lambda: replace(config, env={**config.env, **_pairs(words)}),
        "label": lambda: replace(config, labels={**config.labels, **_pairs(words)}),
        "user": lambda: replace(config, user=words[0]),
        "workdir": lambda: replace(config, workdir=str(Path(config.workdir, words[0]))),
        "volume": lambda: replace(config, volumes=(*config.volumes, *words)),
        "entrypoint": lambda: replace(config, entrypoint=words),
        "cmd": lambda: replace(config, command=words),
        "healthcheck": lambda: replace(config, healthcheck=step),
        "stopsignal": lambda: replace(config, stop_signal=words[0]),
        "expose": lambda: config,
        "copy": lambda: config,
        "run": lambda: config,
    }
    return changes[step.name]()


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """With the value of each variable, as in `$NAME` and `${NAME}`; nothing for one that is not known."""
    return VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def _step(command: dockerfile.Command) -> Step:
    flags = tuple(
        (name, value) for name, _, value in (flag.removeprefix("--").partition("=") for flag in command.flags)
    )
    return Step(command.cmd.lower(), tuple(command.value), flags, bool(command.json))


def _with_default(step: Step, arguments: Mapping[str, str]) -> Step:
    """An argument that was named before the first stage keeps its value."""
    known = step.name == "arg" and step.words[0] in arguments
    return replace(step, words=(f"{step.words[0]}={arguments[step.words[0]]}",)) if known else step


def _argument(word: str, given: Mapping[str, str]) -> dict[str, str]:
    name, _, default = word.partition("=")
    return {name: given.get(name, default)}


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    return {name: value.strip('"') for name, value in zip(words[::2], words[1::2], strict=True)}
