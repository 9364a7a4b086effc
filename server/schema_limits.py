"""How large a schema may be that an answer is bound to, so that no engine compiles it for seconds."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from swires.errors import InvalidPlan

MAX_CHARS = 64 * 1024
MAX_DEPTH = 64
MAX_PROPERTIES = 256
MAX_PATTERN_CHARS = 512
MAX_COUNTED = 1000
"""Properties of a schema that bounds their number, times that bound: xgrammar takes a state for each.

Measured on xgrammar 0.2.8 with 512 tokens: 200 properties take half a second, 500 four; 50 of which 25 to 40 may be
there take one, 100 with 50 to 70 four; `(a?b*){1,9}` over and over in 15,000 characters more than eight.
"""

Object: TypeAlias = dict[str, Any]


def check_size(schema: str) -> None:
    """Raises InvalidPlan naming `json_schema`."""
    if len(schema) > MAX_CHARS:
        raise _too_large(f"{MAX_CHARS} characters")
    objects = list(_objects(json.loads(schema), 1))
    if any(depth > MAX_DEPTH for depth, _ in objects):
        raise _too_large(f"{MAX_DEPTH} levels")
    num_properties = sum(len(_object(each, "properties")) for _, each in objects)
    if num_properties > MAX_PROPERTIES:
        raise _too_large(f"{MAX_PROPERTIES} properties")
    if num_properties * max((_bound(each) for _, each in objects), default=0) > MAX_COUNTED:
        raise _too_large(f"{MAX_COUNTED} properties times minProperties or maxProperties")
    if sum(map(len, _patterns(objects))) > MAX_PATTERN_CHARS:
        raise _too_large(f"{MAX_PATTERN_CHARS} characters of patterns")


def _objects(schema: object, depth: int) -> Iterator[tuple[int, Object]]:
    """All that there are, how deep they stand before them."""
    if isinstance(schema, dict):
        yield depth, schema
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in parts:
        yield from _objects(part, depth + 1)


def _bound(schema: Object) -> int:
    bounds = (schema.get("minProperties"), schema.get("maxProperties"))
    return max((int(bound) for bound in bounds if isinstance(bound, int | float)), default=0)


def _patterns(objects: list[tuple[int, Object]]) -> Iterator[str]:
    for _, schema in objects:
        if isinstance(pattern := schema.get("pattern"), str):
            yield pattern
        yield from _object(schema, "patternProperties")


def _object(schema: Object, key: str) -> Object:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _too_large(most: str) -> InvalidPlan:
    return InvalidPlan(f"a schema may have at most {most}", field="json_schema")
