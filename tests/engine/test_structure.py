import json

import pytest

from server.engine.structure import bounds_strings, structural_tag


def test_the_stage_with_its_tags() -> None:
    schema = {"type": "object"}
    elements = json.loads(structural_tag(json.dumps(schema)))["format"]["elements"]
    assert [each.get("value") or each.get("json_schema") for each in elements if each["type"] != "regex"] == [
        "<CONCLUSION>",
        schema,
        "</CONCLUSION>",
    ]


@pytest.mark.parametrize(
    ("schema", "bounds"),
    [
        ({"type": "string", "minLength": 1}, True),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 9}]}}}, True),
        ({"properties": {"minLength": {"type": "string"}}}, False),
        ({"type": "array", "minItems": 1}, False),
        (True, False),
    ],
)
def test_bounds_of_strings_are_found(schema: object, bounds: bool) -> None:
    assert bounds_strings(schema) is bounds
