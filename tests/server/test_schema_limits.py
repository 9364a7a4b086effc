import json
from typing import Any

import pytest

from server.schema_limits import MAX_CHARS, MAX_DEPTH, check_size
from swires.errors import InvalidPlan


def objects(depth: int) -> Any:
    """So many within each other."""
    schema: Any = {}
    for _ in range((depth - 1) // 2):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def properties(num: int, **more: object) -> Any:
    return {"type": "object", "properties": {f"p{number}": {} for number in range(num)}, **more}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        properties(256),
        properties(20, minProperties=10, maxProperties=15),
        properties(1, properties="a name"),
        {"type": "string", "pattern": "x" * 512},
        {"enum": ["x" * 1000 for _ in range(60)]},
        objects(MAX_DEPTH - 1),
    ],
)
def test_what_is_compiled_in_time(schema: Any) -> None:
    check_size(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"const": "x" * MAX_CHARS}, "characters"),
        (objects(MAX_DEPTH + 3), "levels"),
        ({"anyOf": [{"items": {"$defs": {"a": properties(257)}}}]}, "properties"),
        ({"items": [properties(200), properties(57)]}, "properties"),
        (properties(100, minProperties=50), "minProperties"),
        (properties(100, maxProperties=1e300), "minProperties"),
        ({"type": "string", "pattern": "(a?b*){1,9}" * 50}, "patterns"),
        ({"patternProperties": {"x" * 300: {}, "y" * 300: {}}}, "patterns"),
    ],
)
def test_what_would_take_seconds(schema: Any, told: str) -> None:
    with pytest.raises(InvalidPlan, match=told) as refused:
        check_size(json.dumps(schema))
    assert refused.value.field == "json_schema"
