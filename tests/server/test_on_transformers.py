"""The whole server over the engine on transformers."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swires.stages import Stage
from tests.server.running import running_checkpoint
from tests.server.test_on_vllm import question

if TYPE_CHECKING:
    from server.engine.transformers_engine import TransformersEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_answer_searched_with_the_verifier(
    transformers_engine: "TransformersEngine", checkpoint: Path
) -> None:
    async with running_checkpoint(transformers_engine, checkpoint) as server, server.connect() as client:
        asked = question(temperature=0, swires={"preset": "balanced", "scorer": "verifier", "max_retraces": 0})
        reply = await client.post("/v1/chat/completions", json=asked)
        version = await client.get("/version")
    told = reply.json()["swires"]
    assert [stage["stage"] for stage in told["stages"]] == [stage.name for stage in Stage]
    assert (told["generations"], told["scorer"], told["scorer_degraded"]) == (12, "verifier", False)
    assert all(stage["score"] is not None for stage in told["stages"][1:])
    assert told["tokens"]["cached"] > told["tokens"]["computed"]
    assert version.json()["engine"].startswith("transformers ")
