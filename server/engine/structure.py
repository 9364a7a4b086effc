"""What a CONCLUSION that is bound to a schema must look like."""

import json

from swires.stages import Stage

SPACE = r"[ \n]{0,2}"
"""Around tags, as checkpoints are trained to write it or not."""

MAX_SPACE = 1
"""Between the parts of the JSON: a model that was not trained to write it may else go on with spaces for ever."""


def structural_tag(schema: str) -> str:
    """The stage at once, its tags and, by the schema, what is between them.

    As xgrammar has it: https://xgrammar.mlc.ai/docs/structural_tag/structural_tag.html
    """
    space = {"type": "regex", "pattern": SPACE}
    opening = {"type": "const_string", "value": Stage.CONCLUSION.opening}
    value = {"type": "json_schema", "json_schema": json.loads(schema), "max_whitespace_cnt": MAX_SPACE}
    closing = {"type": "const_string", "value": Stage.CONCLUSION.closing}
    elements = [space, opening, space, value, space, closing]
    return json.dumps({"type": "structural_tag", "format": {"type": "sequence", "elements": elements}})
