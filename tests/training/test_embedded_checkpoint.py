"""The committed checkpoint on real vLLM: it answers in stages, and its judgement is worth asking."""

import itertools
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import checkpoint as checkpoints
from server.scorer.verifier import Verifier
from swires.parser import parse
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Sampling, Trajectory
from training.tasks.example import Example
from training.tasks.scenes import COLORS, scenes

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


def until(stage: Stage, engine: "VllmEngine", text: str) -> Trajectory:
    return ROOT.then(Candidate(0, stage, text, engine.encode(text), "stop"))


async def test_the_verifier_prefers_what_is_right(
    vllm_engine: "VllmEngine", checkpoint: Path, examples: list[Example]
) -> None:
    tokens = checkpoints.load(str(checkpoint)).verifier
    assert tokens is not None
    verifier = Verifier(vllm_engine, tokens)
    num_preferred = 0
    for example in examples:
        problem = await rendered(vllm_engine, example)
        beginning = example.text.partition(Stage.REASONING.opening)[0]
        color = next(color for color in COLORS if color in example.stages[Stage.CAPTION])
        other = next(color for color in COLORS if color not in example.stages[Stage.CAPTION])
        before, caption = beginning.split(Stage.CAPTION.opening)
        wrong = before + Stage.CAPTION.opening + caption.replace(color, other, 1)
        right_one, wrong_one = (until(Stage.CAPTION, vllm_engine, text) for text in (beginning, wrong))
        scores = (await verifier.measure(problem, [right_one, wrong_one])).values
        num_preferred += scores[0] > scores[1]
    assert num_preferred >= 0.75 * COUNT
