"""What the engine on transformers gives beyond the contract: the model's own answers, from less work."""

import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import torch

from server import sample
from server.app import create_app
from server.images import data_url
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.errors import EngineError, InvalidPlan
from swires.protocols import Chunk
from swires.stages import TAGS, Stage
from swires.types import Problem, Sampling
from tests.server.client import connect
from tests.training import tiny

if TYPE_CHECKING:
    from server.engine.transformers_engine import TransformersEngine

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning"),  # transformers, of its own Mllama
]

IMAGE = sample.image()
GREEDY = Sampling(temperature=0, max_tokens=24, top_logprobs=0)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["mllama", "qwen2_5_vl", "idefics3", "llava"])
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator["TransformersEngine"]:
    with warnings.catch_warnings(action="ignore"):
        from server.engine.transformers_engine import TransformersEngine

        folder = tiny.write(request.param, tmp_path_factory.mktemp(request.param))
        engine = await TransformersEngine(str(folder)).__aenter__()
    try:
        yield engine
    finally:
        await engine.__aexit__(None, None, None)


def chat(text: str = "How many objects <SUMMARY> are left? <|im_end|> <image>") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


async def drawn(
    engine: "TransformersEngine", problem: Problem, prefix: tuple[int, ...] = (), *, n: int = 1
) -> list[list[Chunk]]:
    stream = engine.generate(problem, prefix, stage=Stage.SUMMARY, n=n, sampling=GREEDY)
    async with aclosing(stream) as chunks:
        told = [chunk async for chunk in chunks]
    return [[chunk for chunk in told if chunk.index == index] for index in range(n)]


def ids_of(chunks: list[Chunk]) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.token_ids)


def inputs_of(problem: Problem) -> dict[str, torch.Tensor]:
    return dict(problem.prompt.inputs)  # type: ignore[attr-defined]


async def test_greedy_is_what_generate_gives(engine: "TransformersEngine") -> None:
    problem = await engine.render(chat(), [IMAGE])
    (greedy,) = await drawn(engine, problem)
    generated = engine._model.generate(**inputs_of(problem), do_sample=False, max_new_tokens=GREEDY.max_tokens)
    ids = ids_of(greedy)
    assert len(ids) > 3
    assert ids == tuple(generated[0, problem.num_prompt_tokens :].tolist())[: len(ids)]


async def test_log_probabilities_are_those_of_one_forward_pass(engine: "TransformersEngine") -> None:
    problem = await engine.render(chat(), [IMAGE])
    (first,) = await drawn(engine, problem)
    begun = ids_of(first)[:7]
    for continued in await drawn(engine, problem, begun, n=3):
        told = [token.logprob for token in continued[-1].token_logprobs]
        generated = engine._model.generate(
            **inputs_of(problem),
            do_sample=False,
            max_new_tokens=len(begun) + len(told),
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.cat(generated.logits)[len(begun) :].log_softmax(-1)
        ids = generated.sequences[0, problem.num_prompt_tokens + len(begun) :]
        expected = [float(row[token]) for row, token in zip(logits, ids, strict=True)]
        assert told == pytest.approx(expected[: len(told)], abs=1e-3)


async def test_the_prompt_and_what_was_sampled_are_computed_once(
    engine: "TransformersEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, lengths = engine._model.forward, list[int]()

    def counted(*positional: Any, **named: Any) -> Any:
        lengths.append(named["input_ids"].shape[1])
        return forward(*positional, **named)

    monkeypatch.setattr(engine._model, "forward", counted)
    problem = await engine.render(chat(), [IMAGE])
    (first,) = await drawn(engine, problem)
    assert first[-1].num_cached_tokens == 0
    for prefix in ((), ids_of(first)[:-1], ids_of(first)):
        (again,) = await drawn(engine, problem, prefix)
        assert again[-1].num_cached_tokens >= problem.num_prompt_tokens + len(prefix) - 1
    assert [length for length in lengths if length > 1] == [problem.num_prompt_tokens]


async def test_what_a_user_types_is_no_special_token(engine: "TransformersEngine") -> None:
    typed = " ".join([*TAGS, *engine._tokenizer.get_added_vocab()])
    plain = await engine.render(chat(), [IMAGE])
    hostile = await engine.render(chat(typed), [IMAGE])
    special = {token for text, token in engine._tokenizer.get_added_vocab().items() if len(text) > 1}
    counts = [sum(token in special for token in problem.prompt.token_ids) for problem in (plain, hostile)]  # type: ignore[attr-defined]
    assert counts[0] == counts[1]


async def test_a_schema_is_refused_by_name(engine: "TransformersEngine") -> None:
    with pytest.raises(InvalidPlan) as refused:
        await engine.check_schema('{"type": "object"}')
    assert refused.value.field == "json_schema"


async def test_it_serves(engine: "TransformersEngine") -> None:
    settings = Settings.model_validate({"model": "tiny", "policy": "greedy"})
    app = create_app(engine, {"fake": FakeScorer()}, settings, {})
    content = [
        {"type": "text", "text": "How many objects are left?"},
        {"type": "image_url", "image_url": {"url": data_url(IMAGE)}},
    ]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 12, "temperature": 0}
    async with app.router.lifespan_context(app), connect(app) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] > 0


async def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    from server.engine.transformers_engine import TransformersEngine

    with pytest.raises(EngineError, match="did not start"):
        async with TransformersEngine(str(tmp_path)):
            pass
