"""What the server reads beside the weights: `swires.json`, which says how the stages are marked and judged."""

import json
from pathlib import Path
from typing import Literal

FILE_NAME = "swires.json"
ASK, YES, NO = "<VERIFY>", "+", "-"
VERIFIER = {"ask": ASK, "yes": YES, "no": NO}


def describe(folder: Path, *, tags: Literal["special", "text"], verifier: bool) -> None:
    """Write the file; `swires calibrate` adds the calibration of the scorers."""
    facts: dict[str, object] = {"stages": {"tags": tags}}
    if verifier:
        facts["verifier"] = VERIFIER
    (folder / FILE_NAME).write_text(json.dumps(facts, indent=2) + "\n")
