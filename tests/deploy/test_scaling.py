"""The commands of the page on scaling are ones that the server and vLLM take."""

import re
import shlex
import warnings
from pathlib import Path

import pytest

from server.settings import Settings

PAGE = (Path(__file__).parents[2] / "deploy" / "scaling.md").read_text()
COMMANDS = re.findall(r"`(swires serve --model [^`]*)`", PAGE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken(command: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        from server.engine.vllm_engine import engine_options
    ours, _, vllms = command.partition(" -- ")
    assert engine_options(shlex.split(vllms))
    for option in re.findall(r"--([a-z-]+)", ours):
        assert option.replace("-", "_") in Settings.model_fields


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 4
