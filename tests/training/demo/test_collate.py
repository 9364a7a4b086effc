import itertools
import random
from typing import Any

import pytest
import torch

from swires.stages import Stage
from training.demo.collate import Collator, pixels
from training.demo.model import make_processor, make_tokenizer
from training.tasks.example import Example
from training.tasks.scenes import COLORS, DIAMETERS, MAX_OBJECTS, SHAPES, scenes

SLIPS = {*map(str, range(MAX_OBJECTS + 1)), *DIAMETERS, *COLORS, *SHAPES}


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(itertools.islice(scenes(1), 300))


@pytest.fixture(scope="module")
def collate(examples: list[Example]) -> Collator:
    return Collator(make_tokenizer(text for one in examples for text in (one.question, *one.stages.values())))


def test_prompt_and_pixels_are_those_of_the_served_processor(collate: Collator, examples: list[Example]) -> None:
    processor = make_processor(collate.tokenizer)
    for example in examples[:20]:
        parts = [{"type": "image"}, {"type": "text", "text": example.question}]
        chat: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        served = processor(text=[text], images=[[example.image]], return_tensors="pt")
        assert collate.prompt(example.question) == served["input_ids"][0].tolist()
        torch.testing.assert_close(pixels(example.image), served["pixel_values"][0, 0])


def test_only_the_assistants_text_and_its_end_are_learned(collate: Collator, examples: list[Example]) -> None:
    batch = collate(examples[:4])
    for row, example in enumerate(examples[:4]):
        learned = batch.targets[row][batch.targets[row] != -100].tolist()
        assert collate.tokenizer.decode(learned) == example.text + "<|end|>"
        at = (batch.targets[row] != -100).nonzero().flatten()
        assert batch.input_ids[row, at[1:]].tolist() == learned[:-1]
    assert batch.weights.sum().item() == pytest.approx(1)


def test_slips_are_not_learned_but_all_else_and_each_stage_is_judged(
    collate: Collator, examples: list[Example]
) -> None:
    rng, num_slipped = random.Random(1), 0
    for example in examples[:100]:
        batch = collate([example], rng=rng)
        ids, targets = batch.input_ids[0].tolist(), batch.targets[0].tolist()
        start, end = len(collate.prompt(example.question)), ids.index(collate.tokenizer.eos_token_id)
        said = ids[start:end]
        slips = [at for at in range(start, end) if targets[at - 1] == -100]
        assert {str(collate.tokenizer.decode([ids[at]])).strip() for at in slips} <= SLIPS
        assert all(targets[at - 1] == ids[at] for at in range(start, end) if at not in slips)
        judged = collate.judge(example, said)
        verdicts = [collate.tokenizer.decode([token]) for token in targets[end + 1 :] if token != -100]
        assert verdicts == ["+" if right else "-" for _, right in judged.verdicts]
        assert slips or "-" not in verdicts
        num_slipped += bool(slips)
    assert 30 < num_slipped < 60


def test_stages_are_judged_by_their_result(collate: Collator, examples: list[Example]) -> None:
    example = next(one for one in examples if one.answer == "3")

    def verdicts(text: str) -> list[bool]:
        return [right for _, right in collate.judge(example, collate.encode(text)).verdicts]

    wrong = example.text.replace("<CONCLUSION>3", "<CONCLUSION>4")
    assert verdicts(example.text) == [True, True, True, True]
    assert verdicts(wrong) == [True, True, True, False]
    assert verdicts(example.text.replace("<CAPTION>", "<CAPTION>9 ")) == [True, False, True, True]
    assert verdicts(example.text.partition("<REASONING>")[0]) == [True, True]


def test_the_verifier_is_asked_as_if_the_transcript_ended_with_the_stage(
    collate: Collator, examples: list[Example]
) -> None:
    example = examples[0]
    judged = collate.judge(example, collate.encode(example.text))
    batch = collate((), [judged])
    prompt = len(collate.prompt(example.question))
    asked = (batch.targets[0] != -100).nonzero().flatten().tolist()
    assert [collate.tokenizer.decode([int(token)]) for token in batch.input_ids[0, asked]] == ["<VERIFY>"] * len(Stage)
    for at, (end, right) in zip(asked, judged.verdicts, strict=True):
        seen = (batch.mask[0, 0, at] == 0).nonzero().flatten().tolist()
        assert seen == [*range(prompt + end), at]
        assert batch.position_ids[0, at] == prompt + end
        assert collate.tokenizer.decode([int(batch.targets[0, at])]) == ("+" if right else "-")


def test_a_rambling_transcript_fits_no_length(collate: Collator, examples: list[Example]) -> None:
    example = examples[0]
    assert collate.fits(collate.judge(example, collate.encode(example.text)))
    rambling = example.text.replace("<REASONING>", "<REASONING>" + "small red circle, " * 100)
    assert not collate.fits(collate.judge(example, collate.encode(rambling)))
