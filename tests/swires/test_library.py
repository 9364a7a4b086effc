"""What holds for the library as a whole."""

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest

import swires
from swires import errors

MODULES = sorted(Path(swires.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_beyond_the_standard_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "relative"]
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"swires"}


def test_the_public_names_are_complete() -> None:
    """Every protocol, event, error, policy and value; not what only the search uses inside."""
    inside = {"admission", "ahead", "choosing", "expansion", "limits", "record", "__init__"}
    modules = [import_module(f"swires.{path.stem}") for path in MODULES if path.stem not in inside]
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    }
    assert public - set(swires.__all__) == {"Search", "answer_sections"}
    assert all(hasattr(swires, name) for name in swires.__all__)


def test_the_tree_of_errors_is_complete() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(each, errors.SwiresError) for each in classes)
    tree = (errors.__doc__ or "").split("SwiresError", 1)[1]
    assert [line[4:] for line in tree.split("\n") if line] == [
        each.__name__ for each in classes if each is not errors.SwiresError
    ]
