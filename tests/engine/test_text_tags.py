"""A checkpoint of which the tags are plain text, and where the token that closes a stage reaches beyond its tag."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from server import sample
from swires.errors import EngineError
from swires.stages import TAGS, Stage
from swires.types import Sampling

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION = {"type": "text", "text": "Subtract all red circles. How many objects are left?"}
CHAT = [{"role": "user", "content": [{"type": "image"}, QUESTION]}]
IMAGE = sample.image()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(
    start_vllm: "StartVllm", checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator["VllmEngine"]:
    folder = tmp_path_factory.mktemp("text_tags")
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] not in TAGS]
    vocabulary = tokenizer["model"]["vocab"]
    for stage in Stage:
        vocabulary[f"{stage.closing}ĠSo"] = vocabulary.pop(stage.closing)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "swires.json").write_text('{"stages": {"tags": "text"}}')
    async with start_vllm(folder, enforce_eager=True, disable_log_stats=True) as engine:
        yield engine


@pytest.mark.parametrize("live", [False, True])
async def test_text_and_ids_end_at_the_tag(engine: "VllmEngine", live: bool) -> None:
    problem = await engine.render(CHAT, [IMAGE])
    texts: dict[int, str] = {0: "", 1: ""}
    ids: dict[int, tuple[int, ...]] = {0: (), 1: ()}
    stream = engine.generate(problem, (), stage=Stage.SUMMARY, n=2, sampling=Sampling(seed=1), live=live)
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            texts[chunk.index] += chunk.text
            ids[chunk.index] += chunk.token_ids
    tag = engine.encode("</SUMMARY>")
    assert len(tag) > 1
    for index in texts:
        assert texts[index].startswith("<SUMMARY>")
        assert texts[index].endswith("</SUMMARY>")
        assert engine.decode(ids[index]) == texts[index]
        assert ids[index][-len(tag) :] == tag


async def test_a_schema_leaves_the_tag_its_end(engine: "VllmEngine") -> None:
    problem = await engine.render(CHAT, [IMAGE])
    schema = json.dumps({"type": "object", "properties": {"count": {"enum": [1, 2]}}, "additionalProperties": False})
    bound = Sampling(temperature=0, json_schema=schema, top_logprobs=0)
    async with aclosing(engine.generate(problem, (), stage=Stage.CONCLUSION, n=1, sampling=bound)) as chunks:
        last = [chunk async for chunk in chunks][-1]
    text = last.text.strip()
    assert text.endswith("</CONCLUSION>")
    assert json.loads(text.removeprefix("<CONCLUSION>").removesuffix("</CONCLUSION>")) in (
        {},
        {"count": 1},
        {"count": 2},
    )
    assert "".join(token.text for token in last.token_logprobs) == last.text


async def test_the_death_of_the_core_is_told(engine: "VllmEngine") -> None:
    problem = await engine.render(CHAT, [IMAGE])
    unending = Sampling(temperature=1.5, top_p=1.0, max_tokens=900)
    async with aclosing(engine.generate(problem, (), stage=Stage.CONCLUSION, n=2, sampling=unending)) as chunks:
        await anext(chunks)
        for process in engine._llm.engine_core.resources.engine_manager.processes:
            process.kill()
        with pytest.raises(EngineError) as failed:
            async for _ in chunks:
                pass
    assert failed.value.dead
    assert not engine.alive
    with pytest.raises(EngineError, match="died"):
        await anext(engine.generate(problem, (), stage=Stage.CONCLUSION, n=1, sampling=unending))
