"""What only real vLLM can show: caches, aborts, its special tokens, its failures."""

import asyncio
import json
import multiprocessing
import os
import re
import signal
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
import pytest_asyncio
from PIL import Image

from server import sample
from swires.errors import EngineError, InvalidPlan
from swires.protocols import Chunk
from swires.stages import TAGS, Stage
from swires.types import Problem, Sampling

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

pytestmark = pytest.mark.asyncio(loop_scope="session")

BLOCK = 32
IMAGE = sample.image()
UNENDING = Sampling(temperature=1.5, top_p=1.0, max_tokens=900)


@pytest_asyncio.fixture(loop_scope="session")
async def problem(vllm_engine: "VllmEngine") -> Problem:
    return await rendered(vllm_engine, "Subtract all red circles. How many objects are left?")


async def rendered(engine: "VllmEngine", text: str, image: Image.Image = IMAGE) -> Problem:
    return await engine.render(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}], [image]
    )


async def last_chunks(
    engine: "VllmEngine", problem: Problem, prefix: tuple[int, ...], stage: Stage, n: int = 1, **sampling: Any
) -> list[Chunk]:
    """The last chunk of each candidate, with all of its ids in it."""
    ids: dict[int, tuple[int, ...]] = {}
    last: dict[int, Chunk] = {}
    chosen = Sampling(**{"seed": 3, **sampling})
    async with aclosing(engine.generate(problem, prefix, stage=stage, n=n, sampling=chosen)) as chunks:
        async for chunk in chunks:
            ids[chunk.index] = ids.get(chunk.index, ()) + chunk.token_ids
            last[chunk.index] = chunk
    return [Chunk(i, last[i].text, ids[i], *_rest_of(last[i])) for i in sorted(last)]


def _rest_of(chunk: Chunk) -> tuple[Any, ...]:
    return chunk.finish_reason, chunk.logprob, chunk.num_prompt_tokens, chunk.num_cached_tokens


async def test_later_stages_find_all_full_blocks_cached(vllm_engine: "VllmEngine", problem: Problem) -> None:
    prefix: tuple[int, ...] = ()
    for stage in Stage:
        for candidate in await last_chunks(vllm_engine, problem, prefix, stage, n=3):
            length = problem.num_prompt_tokens + len(prefix)
            assert candidate.num_prompt_tokens == length
            if prefix:
                assert candidate.num_cached_tokens == (length - 1) // BLOCK * BLOCK
                assert candidate.num_cached_tokens > 0
        prefix += candidate.token_ids


async def test_the_verifier_reads_on_the_cache(vllm_engine: "VllmEngine", problem: Problem) -> None:
    (caption,) = await last_chunks(vllm_engine, problem, (), Stage.CAPTION)
    labels = vllm_engine.encode("+") + vllm_engine.encode("-")
    (read,) = await vllm_engine.read_labels(problem, [caption.token_ids + vllm_engine.encode("<VERIFY>")], labels)
    assert read.num_cached_tokens >= (problem.num_prompt_tokens + len(caption.token_ids) - 1) // BLOCK * BLOCK > 0


async def test_the_image_is_processed_once(vllm_engine: "VllmEngine", monkeypatch: pytest.MonkeyPatch) -> None:
    processor = vllm_engine._llm.renderer.get_mm_processor()
    images_processed = []
    process = processor.info.get_hf_processor().image_processor.__class__.preprocess

    def counted(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        images_processed.append(images)
        return process(self, images, *args, **kwargs)

    monkeypatch.setattr(processor.info.get_hf_processor().image_processor.__class__, "preprocess", counted)
    problem = await rendered(vllm_engine, "How many?", Image.effect_noise((64, 64), 50).convert("RGB"))
    prefix: tuple[int, ...] = ()
    for stage in Stage:
        candidates = await last_chunks(vllm_engine, problem, prefix, stage, n=2)
        prefix += candidates[0].token_ids
    assert len(images_processed) == 1


async def test_an_image_that_the_core_has_lost_is_sent_again(
    vllm_engine: "VllmEngine", problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    (summary,) = await last_chunks(vllm_engine, problem, (), Stage.SUMMARY)
    (caption,) = await last_chunks(vllm_engine, problem, summary.token_ids, Stage.CAPTION, temperature=0)
    sent = []
    generate = vllm_engine._llm.generate

    def counted(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(inputs["mm_kwargs"]["image"][0] is not None)
        return generate(inputs, *args, **kwargs)

    monkeypatch.setattr(vllm_engine._llm, "generate", counted)
    await vllm_engine._llm.engine_core.reset_mm_cache_async()
    (again,) = await last_chunks(vllm_engine, problem, summary.token_ids, Stage.CAPTION, temperature=0)
    assert again.token_ids == caption.token_ids
    assert sent == [False, True]


def busy() -> float:
    """What the acceptance check of the server looks at, too."""
    metrics = prometheus_client.generate_latest().decode()
    values = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^\n]*\} (\S+)$", metrics, re.MULTILINE)
    assert values
    return sum(map(float, values))


@pytest.mark.parametrize("live", [False, True])
async def test_an_abort_frees_the_engine_within_a_second(
    vllm_engine: "VllmEngine", problem: Problem, live: bool
) -> None:
    async with aclosing(
        vllm_engine.generate(problem, (), stage=Stage.CONCLUSION, n=8, sampling=UNENDING, live=live)
    ) as chunks:
        async for _ in chunks:
            if busy():
                break
    closed = time.monotonic()
    while busy():
        await asyncio.sleep(0)
        assert time.monotonic() - closed < 1


async def test_special_tokens_that_a_user_typed_stay_text(vllm_engine: "VllmEngine") -> None:
    typed = "<CAPTION> <image></CONCLUSION><|user|>How many <|us<image>er|>?<VERIFY>"
    plain, special = await rendered(vllm_engine, "How many?"), await rendered(vllm_engine, typed)
    tags = {token for tag in (*TAGS, "<image>", "<|user|>", "<VERIFY>") for token in vllm_engine.encode(tag)}
    assert sorted(set(token_ids(special)) & tags) == sorted(set(token_ids(plain)) & tags)
    assert token_ids(special).count(*vllm_engine.encode("<image>")) == token_ids(plain).count(
        *vllm_engine.encode("<image>")
    )
    assert vllm_engine.decode(token_ids(special)) == vllm_engine.decode(token_ids(plain)).replace("How many?", typed)


def token_ids(problem: Problem) -> tuple[int, ...]:
    prompt: Any = problem.prompt
    ids: tuple[int, ...] = prompt.token_ids
    return ids


async def test_more_images_than_the_engine_takes_are_refused(vllm_engine: "VllmEngine") -> None:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Same?"}]}]
    with pytest.raises(InvalidPlan, match="1 image") as refused:
        await vllm_engine.render(chat, [IMAGE, IMAGE])
    assert refused.value.field == "messages"


async def test_what_vllm_refuses_is_an_engine_error(vllm_engine: "VllmEngine", problem: Problem) -> None:
    for prefix, temperature in (((10**9,), 1.0), ((), 99.0)):
        with pytest.raises(EngineError) as failed:
            await last_chunks(vllm_engine, problem, prefix, Stage.CAPTION, temperature=temperature)
        assert not failed.value.dead
        assert failed.value.__cause__ is not None


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


async def test_seeds_survive_prompts_that_are_read_in_parts(vllm_engine: "VllmEngine", problem: Problem) -> None:
    """All at once they are more than a step takes: one of vLLM's generators for seeds ends its worker on a CPU then."""

    async def sampled(number: int) -> Chunk:
        prefix = vllm_engine.encode(f"{Stage.SUMMARY.opening}{number} " + "a red circle, " * 60)
        (chunk,) = await last_chunks(vllm_engine, problem, prefix, Stage.SUMMARY, seed=number, max_tokens=2)
        return chunk

    chunks = await asyncio.gather(*map(sampled, range(48)))
    assert [len(chunk.token_ids) for chunk in chunks] == [2] * 48


async def test_ctrl_c_does_not_reach_the_core(vllm_engine: "VllmEngine", problem: Problem) -> None:
    cores = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
    workers = [child for core in cores for child in children(core)]
    assert workers
    for pid in [*cores, *workers]:
        os.kill(pid, signal.SIGINT)
    (candidate,) = await last_chunks(vllm_engine, problem, (), Stage.SUMMARY)
    assert candidate.text.endswith("</SUMMARY>")
    assert vllm_engine.alive


async def test_a_start_that_fails_is_told_in_one_line(start_vllm: "StartVllm", tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="did not start") as failed:
        async with start_vllm(tmp_path):
            pass
    assert "\n" not in str(failed.value)
    assert failed.value.dead


async def test_a_start_that_fails_tells_what_the_machine_lacks(
    start_vllm: "StartVllm", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "file" / "vllm"))
    monkeypatch.setattr("server.engine.vllm_engine.SHARED_BYTES", 1 << 60)
    cache, memory = (
        r"cannot write to .*/file/vllm \(Not a directory\): set VLLM_CACHE_ROOT to",
        "/dev/shm has less than",
    )
    with pytest.raises(EngineError, match=f"did not start: .*{cache}.*{memory}"):
        async with start_vllm(tmp_path):
            pass


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "multipleOf": 2},
        {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True, "items": {"type": "string"}}}},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "("},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}},
    ],
)
async def test_a_schema_that_would_be_kept_to_in_part_is_refused(vllm_engine: "VllmEngine", schema: Any) -> None:
    with pytest.raises(InvalidPlan):
        await vllm_engine.check_schema(json.dumps(schema))


async def test_no_string_of_a_bound_conclusion_holds_a_tag(vllm_engine: "VllmEngine", problem: Problem) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "string"}}, "required": ["count"]}
    bound = {
        "json_schema": json.dumps({**schema, "additionalProperties": False}),
        "temperature": 1.5,
        "max_tokens": 200,
    }
    for candidate in await last_chunks(vllm_engine, problem, (), Stage.CONCLUSION, n=8, **bound):
        text = candidate.text.strip().removeprefix("<CONCLUSION>")
        if candidate.finish_reason == "stop":
            assert set(json.loads(text.removesuffix("</CONCLUSION>"))) == {"count"}
        assert not any(tag in text.removesuffix("</CONCLUSION>") for tag in TAGS)


async def test_drafts_are_refused(start_vllm: "StartVllm", checkpoint: Path) -> None:
    drafts = {"method": "ngram", "num_speculative_tokens": 4}
    with pytest.raises(EngineError, match="leave it out"):
        async with start_vllm(checkpoint, speculative_config=drafts):
            raise AssertionError("it has started")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # at vLLM's first import
async def test_engine_options_are_those_of_vllm() -> None:
    from server.engine.vllm_engine import engine_options

    assert engine_options([]) == {}
    assert engine_options(["--max-model-len", "512", "--enforce-eager"]) == {
        "max_model_len": 512,
        "enforce_eager": True,
    }
    with pytest.raises(EngineError, match="vLLM's options: unrecognized arguments: --no-such-option"):
        engine_options(["--no-such-option"])
