"""What a CONCLUSION that is bound to a schema must look like."""

import json
from collections.abc import Collection

from swires.stages import TAGS, Stage

SPACE = r"[ \n]{0,2}"
"""Around tags, as checkpoints are trained to write it or not."""

MAX_SPACE = 1
"""Between the parts of the JSON: a model that was not trained to write it may else go on with spaces for ever."""


def structural_tag(schema: str) -> str:
    """The stage at once, its tags and, by the schema, what is between them, where no string may hold a tag: a model
    that is used to end a stage with one would end it within the JSON.

    As xgrammar has it: https://xgrammar.mlc.ai/docs/structural_tag/structural_tag.html
    """
    space = {"type": "regex", "pattern": SPACE}
    opening = {"type": "const_string", "value": Stage.CONCLUSION.opening}
    value = {
        "type": "json_schema",
        "json_schema": json.loads(schema),
        "max_whitespace_cnt": MAX_SPACE,
        "excludes": TAGS,
    }
    closing = {"type": "const_string", "value": Stage.CONCLUSION.closing}
    elements = [space, opening, space, value, space, closing]
    return json.dumps({"type": "structural_tag", "format": {"type": "sequence", "elements": elements}})


def bounds_strings(schema: object) -> bool:
    """Whether a schema bounds the length of strings, which xgrammar passes over where they are to exclude something."""
    if isinstance(schema, list):
        return any(map(bounds_strings, schema))
    if not isinstance(schema, dict):
        return False
    bounds = (schema.get("minLength"), schema.get("maxLength"))
    return any(isinstance(bound, int) for bound in bounds) or any(map(bounds_strings, schema.values()))


NOT_SCHEMAS = ("properties", "$defs", "definitions", "enum", "const", "default", "examples")
"""Keywords under which names or values stand."""

PASSED_OVER = frozenset(
    {
        *("multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "format", "propertyNames"),
        *("patternProperties", "unevaluatedProperties", "dependentRequired", "if", "not"),
    }
)
"""Keywords of JSON Schema that xgrammar enforces in part or not at all."""


def uses(schema: object, keywords: Collection[str]) -> bool:
    """Whether a schema, or one within it, has any of `keywords`."""
    if isinstance(schema, list):
        return any(uses(each, keywords) for each in schema)
    if not isinstance(schema, dict):
        return False
    named = [each for key in ("properties", "$defs", "definitions") for each in schema.get(key, {}).values()]
    others = [value for key, value in schema.items() if key not in NOT_SCHEMAS]
    return not schema.keys().isdisjoint(keywords) or any(uses(each, keywords) for each in (*named, *others))
