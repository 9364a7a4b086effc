"""What a model answers to held-out problems while it is trained: whether in four stages, and whether right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from swires.parser import parse
from swires.stages import Stage
from training.collate import Collator
from training.config import Evaluate
from training.data.answer import read_answer
from training.data.image import open_image
from training.data.rejection import Rejected

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """A generated answer. It is `valid` with all four stages in order and nothing else, and `right` where its
    conclusion says what the record's says."""

    step: int
    id: str
    question: str
    expected: str
    text: str
    valid: bool
    right: bool


class Generating(Protocol):
    """What models and peft's wrappers of them have in common."""

    device: torch.device

    def generate(self, **kwargs: Any) -> torch.Tensor: ...


class Questions:
    """Answers the first question of each row greedily, each process a part of them."""

    def __init__(self, rows: Sequence[Row], collate: Collator, images: Path, config: Evaluate) -> None:
        self.rows, self.collate, self.images, self.config = rows, collate, images, config

    def __call__(self, model: Generating, step: int) -> list[Sample]:
        """Every process calls this and has all of the answers back."""
        state = PartialState()
        with state.split_between_processes(list(range(len(self.rows))), apply_padding=True) as mine:
            answers = list(self._answers(model, mine, show=state.is_main_process, synced=state.num_processes > 1))
        answered = dict(gather_object(list(zip(mine, answers, strict=True))))
        return [_sample(step, row, answered[number]) for number, row in enumerate(self.rows)]

    def _answers(self, model: Generating, numbers: Sequence[int], *, show: bool, synced: bool) -> Iterator[str]:
        batches = range(0, len(numbers), self.config.batch)
        for at in tqdm(batches, desc="answering", unit="batch", delay=2, leave=False, disable=not show):
            rows = [self.rows[number] for number in numbers[at : at + self.config.batch]]
            yield from self._generate(model, rows, synced=synced)

    @torch.no_grad()
    def _generate(self, model: Generating, rows: Sequence[Row], *, synced: bool) -> Iterator[str]:
        images = [open_image(self.images, row["picture"]) for row in rows]
        prompts = self.collate.prompts(images, [row["turns"][0]["question"] for row in rows])
        output = model.generate(
            **{name: value.to(model.device) for name, value in prompts.items()},
            max_new_tokens=self.config.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=self.collate.end_id,
            pad_token_id=self.collate.tokenizer.pad_token_id,
            use_cache=True,
            synced_gpus=synced,
        )
        for ids in output[:, prompts["input_ids"].shape[1] :].tolist():
            yield self._decode(ids)

    def _decode(self, ids: list[int]) -> str:
        """The stage tags are special tokens too, so these cannot simply be skipped."""
        end = self.collate.end_id
        said = ids[: ids.index(end)] if end in ids else ids
        return str(self.collate.tokenizer.decode(said, skip_special_tokens=False)).strip()


def metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Shares of the samples."""
    return {
        "format_valid": sum(sample.valid for sample in samples) / len(samples),
        "accuracy": sum(sample.right for sample in samples) / len(samples),
    }


def append(samples: Sequence[Sample], file: Path) -> None:
    with file.open("a") as lines:
        lines.writelines(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)


def _sample(step: int, row: Row, text: str) -> Sample:
    question, reference = row["turns"][0]["question"], row["turns"][0]["answer"]
    expected = _conclusion(reference)
    right = _normalised(_conclusion(text)) == _normalised(expected)
    return Sample(step, row["id"], question, expected, text, _is_valid(text), right)


def _is_valid(text: str) -> bool:
    try:
        read_answer(text)
    except Rejected:
        return False
    return True


def _conclusion(text: str) -> str:
    return next((section.text for section in parse(text) if section.stage is Stage.CONCLUSION), "")


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
