"""A reward model on real vLLM: in this process, and through vLLM's own routes over the same engine."""

import asyncio
import json
import math
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
import torch
from safetensors.torch import load_file, save_file

from server.scorer.remote import Remote
from server.scorer.reward_model import RemoteClassifier, RewardModel
from swires.errors import ScorerError
from swires.types import Problem
from tests.scorer.answers import PROBLEM, QUESTION, captions, question
from tests.training import tiny

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

pytestmark = pytest.mark.asyncio(loop_scope="module")

LABELS = ["right"]
TRAJECTORIES = captions("Two red squares.", "Two red squares, and a circle.", "Nothing.")


def write_reward_model(folder: Path) -> None:
    tiny.write("idefics3", folder)
    weights = load_file(folder / "model.safetensors")
    head = torch.randn(len(LABELS), tiny.HIDDEN, generator=torch.Generator().manual_seed(0))
    save_file({**weights, "score.weight": head}, folder / "model.safetensors", {"format": "pt"})
    facts: dict[str, Any] = json.loads((folder / "config.json").read_text())
    facts["id2label"], facts["label2id"] = dict(enumerate(LABELS)), {label: at for at, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(facts))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(start_vllm: "StartVllm", tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[VllmEngine]":
    write_reward_model(folder := tmp_path_factory.mktemp("reward"))
    options: dict[str, Any] = {"runner": "pooling", "convert": "classify", "disable_log_stats": True}
    async with start_vllm(folder, **options, dtype="float32", max_model_len=512) as engine:
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(engine: "VllmEngine") -> AsyncIterator[httpx.AsyncClient]:
    """Of what `vllm serve --runner pooling` puts around its engine."""
    with warnings.catch_warnings(action="ignore"):
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        new_parser: Any = FlexibleArgumentParser
        args = make_arg_parser(new_parser()).parse_args(["--model", "reward"])
        tasks = await engine._llm.get_supported_tasks()
        app = build_app(args, tasks, engine._llm.model_config)
        await init_app_state(engine._llm, app.state, args, tasks)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vllm") as client:
        yield client


async def test_scores_are_logits_that_depend_on_answer_and_image(engine: "VllmEngine") -> None:
    scorer = RewardModel(engine)
    await scorer.check()
    scores = await scorer.measure(PROBLEM, TRAJECTORIES)
    assert len(set(scores.values)) == len(TRAJECTORIES)
    assert not all(0 <= value <= 1 for value in scores.values)  # as probabilities would be
    of_another_image = await scorer.measure(Problem(None, 0, (question("blue"),)), TRAJECTORIES)
    assert not set(of_another_image.values) & set(scores.values)
    again = await scorer.measure(PROBLEM, TRAJECTORIES[::-1])
    assert again.values == pytest.approx(scores.values[::-1], abs=1e-5)
    assert again.num_cached_tokens > again.num_tokens > 0


async def test_a_server_says_the_same(engine: "VllmEngine", client: httpx.AsyncClient) -> None:
    here = await RewardModel(engine).measure(PROBLEM, TRAJECTORIES)
    scorer = RewardModel(RemoteClassifier(Remote("reward model", client)))
    await scorer.check()
    there = await scorer.measure(PROBLEM, TRAJECTORIES)
    assert there.values == pytest.approx(here.values, abs=1e-5)
    assert (there.num_tokens, there.num_cached_tokens) == (0, 0)


async def test_a_probability_is_the_logit_s_sigmoid(engine: "VllmEngine", client: httpx.AsyncClient) -> None:
    (logit,) = (await RewardModel(engine).measure(PROBLEM, TRAJECTORIES[:1])).values
    messages = [QUESTION, {"role": "assistant", "content": TRAJECTORIES[0].text}]
    (label,) = (await client.post("/classify", json={"messages": messages})).json()["data"]
    assert (label["label"], label["num_classes"]) == ("right", 1)
    assert label["probs"] == [pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)]


async def test_what_is_too_long_cannot_be_scored(engine: "VllmEngine", client: httpx.AsyncClient) -> None:
    endless = captions("one, two, " * 500)
    for classifier in (engine, RemoteClassifier(Remote("reward model", client))):
        with pytest.raises(ScorerError, match="maximum context length is 512 tokens"):
            await RewardModel(classifier).measure(PROBLEM, endless)


async def test_a_reading_that_is_cancelled_is_aborted(engine: "VllmEngine") -> None:
    reading = asyncio.create_task(RewardModel(engine).measure(PROBLEM, captions(*map(str, range(32)))))
    while not engine.num_running:
        assert not reading.done()
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert engine.num_running == 0
    assert (await RewardModel(engine).measure(PROBLEM, TRAJECTORIES)).values
