"""The arrows of the design: server -> swires <- training; vLLM, torch and the environment in one module each."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {"swires": {"swires"}, "server": {"server", "swires"}, "training": {"training", "swires"}}
MODULES = [path.relative_to(ROOT) for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Full names of what a module imports, wherever in it; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_all_packages_are_looked_at() -> None:
    assert {path.parts[0] for path in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_arrows_between_packages(path: Path) -> None:
    assert tops(path) & set(ALLOWED) <= ALLOWED[path.parts[0]]


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "server"], ids=str)
def test_vllm_in_one_module(path: Path) -> None:
    """Of the server's process; the other is of its worker's."""
    ours = {Path("server/engine/vllm_engine.py"), Path("server/engine/cpu_worker.py")}
    assert ("vllm" in tops(path)) == (path in ours)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] != "training"], ids=str)
def test_torch_in_one_module_of_the_server(path: Path) -> None:
    assert bool(tops(path) & {"torch", "transformers"}) == (path == Path("server/engine/transformers_engine.py"))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_opentelemetry_in_one_module(path: Path) -> None:
    assert ("opentelemetry" in tops(path)) == (path == Path("server/tracing.py"))


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] != "training"], ids=str)
def test_the_environment_in_one_module(path: Path) -> None:
    """Of `os`, nothing that reads variables; the settings read theirs through pydantic-settings."""
    source = (ROOT / path).read_text()
    assert not re.search(r"\b(environb?|getenvb?|load_dotenv)\b", source)
    assert ("pydantic_settings" in tops(path)) == (path == Path("server/settings.py"))
