"""What every engine keeps, on the fake, on real vLLM, here and over HTTP, and on transformers."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from server.engine.fake import FakeEngine
from swires.errors import InvalidPlan
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

if TYPE_CHECKING:
    from server.engine.http_engine import HttpEngine
    from server.engine.transformers_engine import TransformersEngine
    from server.engine.vllm_engine import VllmEngine

    AnyEngine: TypeAlias = FakeEngine | VllmEngine | HttpEngine | TransformersEngine

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.engine]

QUESTION = "Subtract all red circles. How many objects are left?"
SEEDED = Sampling(seed=7)
COUNT = json.dumps(
    {
        "type": "object",
        "properties": {"count": {"type": "integer", "enum": [1, 2, 3]}},
        "required": ["count"],
        "additionalProperties": False,
    }
)


@pytest.fixture(params=["fake", "vllm", "http", "transformers"])
def engine(request: pytest.FixtureRequest) -> "AnyEngine":
    real: VllmEngine | HttpEngine | TransformersEngine
    if request.param != "fake":
        real = request.getfixturevalue(f"{request.param}_engine")
        return real
    return FakeEngine(max_model_len=1024)


@pytest.fixture
def binding(engine: "AnyEngine", request: pytest.FixtureRequest) -> "AnyEngine":
    """An engine that binds its answer to a schema."""
    if request.node.callspec.params["engine"] == "transformers":
        pytest.skip("transformers binds nothing, which test_transformers_engine holds it to")
    return engine


@pytest_asyncio.fixture(loop_scope="session")
async def problem(engine: "AnyEngine") -> AsyncIterator[Problem]:
    yield await rendered(engine, QUESTION)
    assert engine.num_running == 0


async def rendered(engine: "AnyEngine", text: str) -> Problem:
    image = Image.new("RGB", (64, 64), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.ellipse((6, 6, 18, 18), (220, 40, 40))
    draw.rectangle((38, 34, 52, 48), (50, 80, 220))
    return await engine.render(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}], [image]
    )


@dataclass(frozen=True)
class Sampled:
    """A candidate put together from its chunks."""

    text: str
    token_ids: tuple[int, ...]
    chunks: Sequence[Chunk]

    @property
    def num_pieces(self) -> int:
        return sum(bool(chunk.text) for chunk in self.chunks)

    @property
    def last(self) -> Chunk:
        return self.chunks[-1]


async def sample(
    engine: "AnyEngine",
    problem: Problem,
    prefix: tuple[int, ...] = (),
    *,
    stage: Stage = Stage.SUMMARY,
    n: int = 1,
    sampling: Sampling = SEEDED,
    live: bool = False,
) -> list[Sampled]:
    async with aclosing(engine.generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live)) as stream:
        chunks = [chunk async for chunk in stream]
    assert {chunk.index for chunk in chunks} == set(range(n))
    return [joined([chunk for chunk in chunks if chunk.index == index]) for index in range(n)]


def joined(chunks: Sequence[Chunk]) -> Sampled:
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    return Sampled(
        "".join(chunk.text for chunk in chunks),
        tuple(token for chunk in chunks for token in chunk.token_ids),
        chunks,
    )


async def test_a_stage_ends_at_its_tag(engine: "AnyEngine", problem: Problem) -> None:
    for candidate in await sample(engine, problem, n=3):
        assert candidate.text.startswith("<SUMMARY>")
        assert candidate.text.endswith("</SUMMARY>")
        assert candidate.text.count("</SUMMARY>") == 1
        assert candidate.last.finish_reason == "stop"
        assert engine.decode(candidate.token_ids) == candidate.text


async def test_a_candidate_may_span_stages(engine: "AnyEngine", problem: Problem) -> None:
    (candidate,) = await sample(engine, problem, stage=Stage.CONCLUSION)
    tags = [candidate.text.index(tag) for stage in Stage for tag in (stage.opening, stage.closing)]
    assert tags == sorted(tags)
    assert candidate.text.endswith("</CONCLUSION>")


async def test_a_prefix_goes_on(engine: "AnyEngine", problem: Problem) -> None:
    (summary,) = await sample(engine, problem)
    captions = await sample(engine, problem, summary.token_ids, stage=Stage.CAPTION, n=2)
    for caption in captions:
        assert caption.text.startswith("<CAPTION>")
        assert caption.text.endswith("</CAPTION>")
        assert caption.last.num_prompt_tokens == problem.num_prompt_tokens + len(summary.token_ids)
        assert 0 <= caption.last.num_cached_tokens < caption.last.num_prompt_tokens
    whole = summary.token_ids + captions[0].token_ids
    (rest,) = await sample(engine, problem, whole, stage=Stage.CONCLUSION)
    assert rest.text.startswith("<REASONING>")


async def test_after_the_answer_comes_nothing(engine: "AnyEngine", problem: Problem) -> None:
    (answer,) = await sample(engine, problem, stage=Stage.CONCLUSION)
    (nothing,) = await sample(
        engine, problem, answer.token_ids, stage=Stage.CONCLUSION, sampling=Sampling(temperature=0)
    )
    assert (nothing.text, nothing.token_ids, nothing.last.finish_reason) == ("", (), "stop")


async def test_live_text_comes_in_pieces_and_is_the_same(engine: "AnyEngine", problem: Problem) -> None:
    quiet = await sample(engine, problem, n=2, live=False)
    live = await sample(engine, problem, n=2, live=True)
    assert [(each.text, each.token_ids) for each in live] == [(each.text, each.token_ids) for each in quiet]
    assert all(each.num_pieces > 3 for each in live)
    assert all(engine.decode(chunk.token_ids) == chunk.text for each in live for chunk in each.chunks)
    assert all(each.num_pieces == 1 for each in quiet)


async def test_a_seed_and_an_index_make_a_candidate(engine: "AnyEngine", problem: Problem) -> None:
    hot = Sampling(temperature=2.0, top_p=1.0, max_tokens=80)
    drawn = [
        [
            each.text
            for each in await sample(engine, problem, stage=Stage.CAPTION, n=n, sampling=replace(hot, seed=seed))
        ]
        for n, seed in ((3, 1), (3, 1), (1, 3), (3, 9))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][2] == drawn[2][0]
    assert drawn[0] != drawn[3]
    assert len(set(drawn[0])) == 3


async def test_temperature_zero_needs_no_seed(engine: "AnyEngine", problem: Problem) -> None:
    one, two = await sample(engine, problem, n=2, sampling=Sampling(temperature=0))
    assert one.text == two.text


async def test_likelihood_comes_when_asked_for(engine: "AnyEngine", problem: Problem) -> None:
    (asked,) = await sample(engine, problem, sampling=Sampling(seed=7, likelihood=True))
    (unasked,) = await sample(engine, problem)
    assert unasked.last.logprob is None
    assert asked.last.logprob is not None
    assert -math.inf < asked.last.logprob < 0
    assert asked.text == unasked.text


@pytest.mark.parametrize("live", [False, True])
async def test_the_log_probabilities_of_tokens_come_when_asked_for(
    engine: "AnyEngine", problem: Problem, live: bool
) -> None:
    asked = Sampling(temperature=0, top_logprobs=3)
    (candidate,) = await sample(engine, problem, sampling=asked, live=live)
    tokens = candidate.last.token_logprobs
    assert len(tokens) == len(candidate.token_ids)
    assert "".join(token.text for token in tokens) == candidate.text
    for token in tokens:
        logprobs = [logprob for _, logprob in token.top]
        assert len(logprobs) == 3
        assert token.logprob == max(logprobs) <= 0
        assert token.text in {text for text, _ in token.top}
    assert all(not chunk.token_logprobs for chunk in candidate.chunks[:-1])
    (unasked,) = await sample(engine, problem)
    assert unasked.last.token_logprobs == ()


async def test_as_many_alternatives_come_as_the_engine_says(engine: "AnyEngine", problem: Problem) -> None:
    asked = Sampling(seed=7, max_tokens=2, top_logprobs=engine.max_logprobs)
    (candidate,) = await sample(engine, problem, sampling=asked)
    assert [len(token.top) for token in candidate.last.token_logprobs] == [engine.max_logprobs] * 2


async def test_log_probabilities_without_alternatives(engine: "AnyEngine", problem: Problem) -> None:
    (candidate,) = await sample(engine, problem, sampling=Sampling(seed=7, top_logprobs=0))
    assert "".join(token.text for token in candidate.last.token_logprobs) == candidate.text
    assert all(token.top == () for token in candidate.last.token_logprobs)


@pytest.mark.parametrize("live", [False, True])
async def test_a_schema_binds_the_conclusion_and_its_tag_ends_it(
    binding: "AnyEngine", problem: Problem, live: bool
) -> None:
    bound = Sampling(temperature=0, json_schema=COUNT, max_tokens=400)
    (reasoning,) = await sample(binding, problem, stage=Stage.REASONING, sampling=bound, live=live)
    assert reasoning.text.endswith("</REASONING>")
    assert "{" not in reasoning.text
    for prefix in (reasoning.token_ids, ()):
        (candidate,) = await sample(binding, problem, prefix, stage=Stage.CONCLUSION, sampling=bound, live=live)
        before, _, concluded = candidate.text.partition("<CONCLUSION>")
        assert candidate.last.finish_reason == "stop"
        assert before.strip() == ""
        assert concluded.endswith("</CONCLUSION>")
        assert json.loads(concluded.removesuffix("</CONCLUSION>"))["count"] in (1, 2, 3)
        assert binding.decode(candidate.token_ids) == candidate.text
        assert not live or candidate.num_pieces > 3


async def test_a_schema_that_cannot_be_kept_to_is_refused(binding: "AnyEngine") -> None:
    await binding.check_schema(COUNT)
    await binding.check_schema('{"type": "object"}')
    for schema in ('{"type": "no-such-type"}', '{"type": "object", "properties": {"a": {"type": "nothing"}}}'):
        with pytest.raises(InvalidPlan) as refused:
            await binding.check_schema(schema)
        assert refused.value.field == "json_schema"


async def test_max_tokens_cuts(engine: "AnyEngine", problem: Problem) -> None:
    for candidate in await sample(engine, problem, n=2, sampling=Sampling(seed=7, max_tokens=5)):
        assert len(candidate.token_ids) == 5
        assert candidate.last.finish_reason == "length"
        assert engine.decode(candidate.token_ids) == candidate.text


async def test_a_full_context_cuts(engine: "AnyEngine", problem: Problem) -> None:
    room = engine.max_model_len - problem.num_prompt_tokens
    (word,) = engine.encode("a")
    (some,) = await sample(engine, problem, (word,) * (room - 3))
    assert len(some.token_ids) <= 3
    for none in await sample(engine, problem, (word,) * room, n=2):
        assert (none.text, none.token_ids, none.last.finish_reason) == ("", (), "length")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("stop", [".", "e", "jec"])
async def test_a_stop_string_ends_text_and_ids(engine: "AnyEngine", problem: Problem, stop: str, live: bool) -> None:
    for candidate in await sample(engine, problem, n=2, sampling=Sampling(seed=7, stop=(stop,)), live=live):
        text = candidate.text
        assert text.endswith((stop, "</SUMMARY>"))
        assert text.find(stop) in (-1, len(text) - len(stop))
        assert engine.decode(candidate.token_ids) == text
        assert not live or all(engine.decode(chunk.token_ids) == chunk.text for chunk in candidate.chunks)


async def test_sentence_by_sentence_comes_to_an_answer(engine: "AnyEngine", problem: Problem) -> None:
    ids: tuple[int, ...] = ()
    for _ in range(40):
        (sentence,) = await sample(
            engine, problem, ids, stage=Stage.CONCLUSION, sampling=Sampling(temperature=0, stop=(".",))
        )
        ids += sentence.token_ids
        if not sentence.text.endswith("."):
            break
    assert engine.decode(ids).startswith("<SUMMARY>")
    assert engine.decode(ids).endswith("</CONCLUSION>")


async def test_many_at_once(engine: "AnyEngine", problem: Problem) -> None:
    all_sampled = await asyncio.gather(
        *(sample(engine, problem, n=4, sampling=Sampling(seed=seed)) for seed in range(8))
    )
    assert all(each.text.endswith("</SUMMARY>") for sampled in all_sampled for each in sampled)


@pytest.mark.parametrize("live", [False, True])
async def test_closing_early_leaves_nothing_running(engine: "AnyEngine", problem: Problem, live: bool) -> None:
    unending = Sampling(temperature=1.5, top_p=1.0, max_tokens=900)
    async with aclosing(
        engine.generate(problem, (), stage=Stage.CONCLUSION, n=8, sampling=unending, live=live)
    ) as stream:
        await anext(stream)
        assert engine.num_running > 0
    assert engine.num_running == 0


async def test_cancelling_leaves_nothing_running(engine: "AnyEngine", problem: Problem) -> None:
    for turns in range(12):
        task = asyncio.create_task(sample(engine, problem, stage=Stage.CONCLUSION, n=8))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.num_running == 0


async def test_labels_are_read_after_each_prefix(engine: "AnyEngine", problem: Problem) -> None:
    (summary,) = await sample(engine, problem)
    labels = engine.encode("+") + engine.encode("-")
    one, two, again = await engine.read_labels(problem, [summary.token_ids, (), summary.token_ids], labels)
    assert one.logprobs == pytest.approx(again.logprobs, abs=0.1)
    assert one.logprobs != two.logprobs
    assert all(sum(map(math.exp, read.logprobs)) <= 1 for read in (one, two))
    assert one.num_prompt_tokens == problem.num_prompt_tokens + len(summary.token_ids)
    assert one.num_cached_tokens < one.num_prompt_tokens


async def test_a_prompt_beyond_the_context_is_refused(engine: "AnyEngine") -> None:
    with pytest.raises(InvalidPlan) as refused:
        await rendered(engine, "How many? " * 1000)
    assert refused.value.field == "messages"


async def test_a_chat_of_several_messages_without_an_image(engine: "AnyEngine") -> None:
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
    ]
    problem = await engine.render(chat, [])
    assert problem.num_prompt_tokens > (await engine.render(chat[-1:], [])).num_prompt_tokens
    (answer,) = await sample(engine, problem, sampling=Sampling(seed=1, max_tokens=8))
    assert answer.chunks[-1].finish_reason in ("stop", "length")
