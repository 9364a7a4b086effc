import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.training import tiny
from tests.training.chats import answer
from training.collate import Collator
from training.config import Evaluate
from training.samples import Questions, Sample, append, metrics
from training.tags import make_special

UNSTAGED = "2"
SAID = {
    answer("2"): (True, True),
    answer("  Two.\n"): (True, False),
    answer("2."): (True, True),
    answer("3"): (True, False),
    answer("2").replace("CAPTION", "SUMMARY"): (False, True),
    answer("2").partition("<CONCLUSION>")[0]: (False, False),
    UNSTAGED: (False, True),
    "": (False, False),
}
"""Whether it has all stages, and whether it is right where "2" is."""


class Parrot:
    """Says one text after the other, and the end of turn and padding after it."""

    device = torch.device("cpu")

    def __init__(self, collate: Collator, texts: Iterator[str]) -> None:
        self.collate, self.texts = collate, texts
        self.options: list[dict[str, Any]] = []

    def generate(self, **kwargs: Any) -> torch.Tensor:
        self.options.append(kwargs)
        tokenizer, prompts = self.collate.tokenizer, kwargs["input_ids"]
        said = [tokenizer.encode(next(self.texts), add_special_tokens=False) for _ in prompts]
        longest = max(map(len, said)) + 2
        padding = [tokenizer.pad_token_id] * longest
        rows = torch.tensor([[*ids, self.collate.end_id, *padding][:longest] for ids in said])
        return torch.cat([prompts, rows], dim=1)


@pytest.fixture(scope="module")
def collate() -> Collator:
    model, processor = tiny.FAMILIES["qwen3_vl"]()
    make_special(model, processor.tokenizer)
    return Collator(processor)


@pytest.fixture
def samples(collate: Collator, tmp_path: Path) -> list[Sample]:
    Image.new("RGB", (80, 60), "red").save(tmp_path / "a.png")
    turns = [{"question": "How many?", "answer": answer("2")}, {"question": "Why?", "answer": answer("so")}]
    rows = [{"id": str(number), "picture": "a.png", "turns": turns} for number in range(len(SAID))]
    parrot = Parrot(collate, iter(SAID))
    found = Questions(rows, collate, tmp_path, Evaluate(batch=3, max_new_tokens=77))(parrot, step=5)
    assert [len(options["input_ids"]) for options in parrot.options] == [3, 3, 2]
    assert {options["max_new_tokens"] for options in parrot.options} == {77}
    assert not any(options["do_sample"] for options in parrot.options)
    assert str(collate.tokenizer.decode(parrot.options[0]["input_ids"][0])).endswith("assistant\n")
    return found


def test_answers_are_judged_by_their_stages_and_their_conclusion(samples: list[Sample]) -> None:
    assert {sample.text: (sample.valid, sample.right) for sample in samples} == {
        text.strip(): verdict for text, verdict in SAID.items()
    }
    assert {(sample.step, sample.question, sample.expected) for sample in samples} == {(5, "How many?", "2")}
    assert [sample.id for sample in samples] == [str(number) for number in range(len(SAID))]


def test_shares_of_the_samples(samples: list[Sample]) -> None:
    assert metrics(samples) == {"format_valid": 4 / 8, "accuracy": 4 / 8}


def test_samples_are_appended_a_line_each(samples: list[Sample], tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    append(samples[:2], file)
    append(samples[2:], file)
    assert [json.loads(line) for line in file.read_text().splitlines()] == [asdict(sample) for sample in samples]
