"""`swires serve` over real vLLM, traced and logging JSON: one start for all of it."""

import json
from pathlib import Path

import pytest

from deploy.trace.draw import of_search
from deploy.trace.record import recorded
from swires.stages import Stage

pytestmark = pytest.mark.slow


async def test_a_search_from_the_socket_to_the_engine(checkpoint: Path) -> None:
    told = await recorded(str(checkpoint), "--log-format", "json")
    spans, by_id = of_search(told.spans), {span.id: span for span in told.spans}
    facts = told.answer["swires"]
    (search,) = (span for span in spans if span.name.startswith("chat "))
    assert search.attributes["swires.generations"] == facts["generations"]

    requests = [span for span in spans if span.name == "llm_request"]
    above = [by_id[span.parent].name for span in requests]
    assert len([name for name in above if name in Stage.__members__]) == facts["generations"]
    assert set(above) == {*Stage.__members__, "score"}

    lines = [json.loads(line) for line in told.log.splitlines() if line.startswith("{")]  # libraries print of their own
    (line,) = (line for line in lines if line["message"] == "search")
    assert (line["trace_id"], line["generations"]) == (search.trace, facts["generations"])
    assert {line["logger"].partition(".")[0] for line in lines} >= {"server", "uvicorn", "vllm"}
    assert {line.get("process") for line in lines} >= {None, "EngineCore"}
    assert "[core.py:" not in told.log
