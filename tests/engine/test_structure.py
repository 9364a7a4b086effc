import json

from server.engine.structure import structural_tag


def test_the_stage_with_its_tags() -> None:
    schema = {"type": "object"}
    elements = json.loads(structural_tag(json.dumps(schema)))["format"]["elements"]
    assert [each.get("value") or each.get("json_schema") for each in elements if each["type"] != "regex"] == [
        "<CONCLUSION>",
        schema,
        "</CONCLUSION>",
    ]
