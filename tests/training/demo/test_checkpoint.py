"""The committed checkpoint on real vLLM: it answers in stages, and its judgement is worth asking."""

import itertools
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import checkpoint as checkpoints
from server.scorer.verifier import Verifier
from swires.expansion import Draft
from swires.parser import parse
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Sampling, Trajectory
from training.tasks.example import Example
from training.tasks.scenes import scenes
from training.tasks.truth import is_true

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED, COUNT = 31_337, 24


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(itertools.islice(scenes(SEED), COUNT))


async def rendered(engine: "VllmEngine", example: Example) -> Problem:
    parts = [{"type": "image"}, {"type": "text", "text": example.question}]
    return await engine.render([{"role": "user", "content": parts}], [example.image])


async def test_greedy_answers_have_four_stages_and_are_often_right(
    vllm_engine: "VllmEngine", examples: list[Example]
) -> None:
    num_staged, num_right = 0, 0
    for example in examples:
        stream = vllm_engine.generate(
            await rendered(vllm_engine, example),
            (),
            stage=Stage.CONCLUSION,
            n=1,
            sampling=Sampling(temperature=0, max_tokens=400),
        )
        async with aclosing(stream) as chunks:
            sections = parse("".join([chunk.text async for chunk in chunks]))
        num_staged += [section.stage for section in sections] == list(Stage)
        num_right += sections[-1].text == example.answer
    assert num_staged >= 0.95 * COUNT
    assert num_right >= 0.6 * COUNT


async def reasoned(engine: "VllmEngine", problem: Problem) -> list[Trajectory]:
    """Four samples through REASONING, hot enough for mistakes."""
    drafts = {index: Draft(index) for index in range(4)}
    sampling = Sampling(temperature=1, max_tokens=400, seed=SEED)
    stream = engine.generate(problem, (), stage=Stage.REASONING, n=4, sampling=sampling)
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            drafts[chunk.index].text += chunk.text
            drafts[chunk.index].token_ids += chunk.token_ids
    return [
        ROOT.then(Candidate(each.id, Stage.REASONING, each.text, each.token_ids, "stop")) for each in drafts.values()
    ]


async def test_the_verifier_ranks_right_reasonings_above_wrong_ones(
    vllm_engine: "VllmEngine", checkpoint: Path, examples: list[Example]
) -> None:
    tokens = checkpoints.load(str(checkpoint)).verifier
    assert tokens is not None
    verifier = Verifier(vllm_engine, tokens)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for example in examples:
        problem = await rendered(vllm_engine, example)
        trajectories = await reasoned(vllm_engine, problem)
        measured = await verifier.measure(problem, trajectories)
        for trajectory, score in zip(trajectories, measured.values, strict=True):
            reasoning = parse(trajectory.text)[-1]
            scores[is_true(example, Stage.REASONING, reasoning.text)].append(score)
    pairs = list(itertools.product(scores[True], scores[False]))
    assert len(pairs) > 250
    assert sum(right > wrong for right, wrong in pairs) / len(pairs) > 0.8  # the area under the ROC curve
