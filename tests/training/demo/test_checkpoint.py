"""The committed checkpoint on real vLLM: it answers in stages, and its judgement is worth asking."""

import itertools
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import checkpoint as checkpoints
from server.scorer.verifier import Verifier
from swires.expansion import Draft
from swires.parser import Section, parse
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Sampling, Trajectory
from training.tasks.example import Example
from training.tasks.scenes import scenes

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED, COUNT = 31_337, 48


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
    assert num_right >= 0.4 * COUNT


async def captioned(engine: "VllmEngine", problem: Problem) -> list[Trajectory]:
    """Four samples through CAPTION."""
    drafts = {index: Draft(index) for index in range(4)}
    stream = engine.generate(problem, (), stage=Stage.CAPTION, n=4, sampling=Sampling(max_tokens=200, seed=SEED))
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            drafts[chunk.index].text += chunk.text
            drafts[chunk.index].token_ids += chunk.token_ids
    return [ROOT.then(Candidate(each.id, Stage.CAPTION, each.text, each.token_ids, "stop")) for each in drafts.values()]


async def test_the_verifier_ranks_right_captions_above_wrong_ones(
    vllm_engine: "VllmEngine", checkpoint: Path, examples: list[Example]
) -> None:
    tokens = checkpoints.load(str(checkpoint)).verifier
    assert tokens is not None
    verifier = Verifier(vllm_engine, tokens)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for example in examples:
        problem = await rendered(vllm_engine, example)
        trajectories = await captioned(vllm_engine, problem)
        measured = await verifier.measure(problem, trajectories)
        truth = Section(Stage.CAPTION, example.stages[Stage.CAPTION])
        for trajectory, score in zip(trajectories, measured.values, strict=True):
            scores[truth in parse(trajectory.text)].append(score)
    pairs = list(itertools.product(scores[True], scores[False]))
    assert len(pairs) > 500
    assert sum(right > wrong for right, wrong in pairs) / len(pairs) > 0.6  # the area under the ROC curve
