"""From a checkpoint of each family through training and export to an answer: on real vLLM, Mllama's by transformers."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from deploy.install import OLDEST, oldest_allowed
from server.app import create_app
from server.checkpoint import Deviation, load, save
from server.preflight import check_folder
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from swires.stages import Stage
from swires.types import Problem, Sampling
from tests.server.client import Json, chat, image_url
from tests.server.running import running
from tests.training import oldest, tiny
from tests.training.by_heart import PICTURES, QUESTION, STAGES, exported, transcript

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

ASKED = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
IMAGE_TOKENS = {
    "idefics3": "<image>",
    "smolvlm": "<image>",
    "internvl": "<IMG_CONTEXT>",
    "qwen2_5_vl": "<|image_pad|>",
    "qwen3_vl": "<|image_pad|>",
    "llava": "<image>",
}
BLOCK = 32


def calibrated(folder: Path) -> Path:
    usual = {stage: Deviation(mean=0, std=1) for stage in Stage}
    save(str(folder), load(str(folder)).model_copy(update={"calibration": {"verifier": usual}}))
    return folder


@asynccontextmanager
async def asking(engine: "VllmEngine", model: Path) -> AsyncIterator[Any]:
    """Puts a question about a picture to the whole server, over HTTP."""
    known = load(str(model))
    scorers = make_scorers(engine, known, chosen_scorers(known, ("verifier",)))
    settings = Settings.model_validate({"model": str(model), "served_name": "demo", "scorers": ("verifier",)})
    async with running(create_app(engine, scorers, settings)) as server, server.connect() as client:

        async def ask(color: str, **fields: object) -> Json:
            parts = [
                {"type": "image_url", "image_url": {"url": image_url(PICTURES[color])}},
                {"type": "text", "text": QUESTION},
            ]
            request = chat(messages=[{"role": "user", "content": parts}], **fields)
            reply = await client.post("/v1/chat/completions", json=request)
            assert reply.status_code == 200, reply.text
            answer: Json = reply.json()
            return answer

        yield ask


USUAL = ("idefics3", "qwen2_5_vl")
FAMILIES = [pytest.param(each, marks=[] if each in USUAL else pytest.mark.slow) for each in IMAGE_TOKENS]


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_was_trained_is_served(family: str, tmp_path: Path, start_vllm: "StartVllm") -> None:
    model = calibrated(exported(family, tmp_path, steps=oldest.STEPS))
    check_folder(model)
    async with start_vllm(model, enforce_eager=True, dtype="float32", disable_log_stats=True) as engine:
        async with asking(engine, model) as ask:
            for color in PICTURES:
                _check_answer(await ask(color, temperature=0.2, swires={"policy": "swires", "max_retraces": 0}), color)
            _check_cut(await ask("red", max_tokens=20, swires={"policy": "swires", "max_retraces": 0}))
        await _check_stages(engine)
        await _check_typed_image_token(engine, IMAGE_TOKENS[family])
        await _check_numbers(engine, model)


def _check_answer(answer: Json, color: str) -> None:
    """The two pictures are told apart, each stage is what was trained, and the verifier has read them."""
    told = answer["swires"]
    assert {stage["stage"]: stage["text"] for stage in told["stages"]} == {
        stage.name: text for stage, text in STAGES[color].items()
    }
    assert answer["choices"][0]["message"]["content"] == STAGES[color][Stage.CONCLUSION]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert (told["generations"], told["scorer"], told["scorer_degraded"]) == (12, "verifier", False)
    assert told["tokens"]["cached"] > told["tokens"]["computed"]


def _check_cut(answer: Json) -> None:
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] > 0


async def _check_stages(engine: "VllmEngine") -> None:
    """Stage after stage: text and ids agree, and of what went before only the last block is computed again."""
    problem = await engine.render(ASKED, [PICTURES["blue"]])
    prefix: tuple[int, ...] = ()
    for stage in Stage:
        ids, text = prefix, ""
        async with aclosing(
            engine.generate(problem, prefix, stage=stage, n=1, sampling=Sampling(temperature=0), live=True)
        ) as chunks:
            async for chunk in chunks:
                ids, text = ids + chunk.token_ids, text + chunk.text
        assert text.strip().endswith(stage.closing)
        assert _decoded(engine, problem, ids).endswith(text)
        assert chunk.num_prompt_tokens == problem.num_prompt_tokens + len(prefix)
        assert chunk.num_cached_tokens == (chunk.num_prompt_tokens - 1) // BLOCK * BLOCK
        prefix = ids


def _decoded(engine: "VllmEngine", problem: Problem, ids: tuple[int, ...]) -> str:
    return engine.decode((*_token_ids(problem), *ids))


async def _check_typed_image_token(engine: "VllmEngine", token: str) -> None:
    typed = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"What is {token} here?"}]}]
    plain, special = [await engine.render(messages, [PICTURES["red"]]) for messages in (ASKED, typed)]
    (image_id,) = engine.encode(token)
    assert _token_ids(special).count(image_id) == _token_ids(plain).count(image_id) > 1
    assert f"What is {token} here?" in engine.decode(_token_ids(special))


async def _check_numbers(engine: "VllmEngine", model: Path) -> None:
    """What vLLM reads after three stages, given as ids, is what transformers reads: same ids, places and picture."""
    processor = AutoProcessor.from_pretrained(model)
    reference = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    said = transcript("red", Stage.REASONING)
    text = processor.apply_chat_template(ASKED, add_generation_prompt=True) + said
    batch = processor(text=[text], images=[PICTURES["red"]], add_special_tokens=False, return_tensors="pt")
    labels = engine.encode("<CONCLUSION>") + engine.encode("+") + engine.encode("-")
    with torch.inference_mode():
        logprobs = reference(**batch).logits[0, -1].float().log_softmax(-1)[list(labels)]
    problem = await engine.render(ASKED, [PICTURES["red"]])
    (read,) = await engine.read_labels(problem, [engine.encode(said)], labels)
    assert (*_token_ids(problem), *engine.encode(said)) == tuple(batch["input_ids"][0].tolist())
    assert read.logprobs == pytest.approx(logprobs.tolist(), abs=0.01)


def _token_ids(problem: Problem) -> tuple[int, ...]:
    prompt: Any = problem.prompt
    ids: tuple[int, ...] = prompt.token_ids
    return ids


@pytest.fixture(scope="module")
def trained_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family, from an environment with packages as old as training may have them."""
    packages, folder = Path(sys.prefix) / OLDEST, tmp_path_factory.mktemp("elsewhere")
    assert packages.is_dir(), "deploy/install.py puts them there"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.training.oldest", folder],
        env=os.environ | {"PYTHONPATH": str(packages)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_was_trained_with_an_older_transformers_is_read(family: str, trained_elsewhere: Path) -> None:
    model = trained_elsewhere / family / "exported"
    check_folder(model)
    written_by = json.loads((model / "config.json").read_text())["transformers_version"]
    assert written_by == oldest_allowed()["transformers"]
    there = load_file(trained_elsewhere / family / "logits.safetensors")["logits"]
    with warnings.catch_warnings(action="ignore"):  # Mllama's, as below
        assert torch.allclose(oldest.logits(model), there, atol=1e-4)


async def test_what_was_trained_with_an_older_transformers_is_served(
    trained_elsewhere: Path, start_vllm: "StartVllm"
) -> None:
    model = calibrated(trained_elsewhere / oldest.SERVED / "exported")
    async with (
        start_vllm(model, enforce_eager=True, dtype="float32", disable_log_stats=True) as engine,
        asking(engine, model) as ask,
    ):
        for color in PICTURES:
            _check_answer(await ask(color, temperature=0.2, swires={"policy": "swires", "max_retraces": 0}), color)


def test_what_was_trained_is_said_by_mllama(tmp_path: Path) -> None:
    """vLLM serves none of its kind any more."""
    model = exported("mllama", tmp_path, steps=oldest.STEPS)
    check_folder(model)
    processor = AutoProcessor.from_pretrained(model)
    mllama: Any = AutoModelForImageTextToText.from_pretrained(model)
    prompt = processor.apply_chat_template(ASKED, add_generation_prompt=True)
    for color, picture in PICTURES.items():
        batch = processor(text=[prompt], images=[picture], add_special_tokens=False, return_tensors="pt")
        with warnings.catch_warnings(action="ignore"):  # transformers' own Mllama is not up to its deprecations
            said = mllama.generate(**batch, max_new_tokens=200)[0, batch["input_ids"].shape[1] :]
        assert processor.tokenizer.decode(said, skip_special_tokens=False) == transcript(color) + "<|eot_id|>"
