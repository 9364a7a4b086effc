"""Transcripts to padded tensors, with a branch after each stage where the verifier is asked."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from swires.stages import Stage
from training.checkpoint import ASK, NO, YES
from training.demo.model import ASSISTANT, END, IMAGE_MEAN, IMAGE_SEQ_LEN, IMAGE_STD, USER, token_id
from training.tasks.example import Example
from training.tasks.scenes import Scene
from training.tasks.slips import Slipping, unmarked
from training.tasks.truth import is_true

LENGTHS = (128, 152, 184, 224, 272, 384)
"""Batches are padded to one of these, so that the compiled model meets few shapes."""

JUDGED_WEIGHT = 0.5

SLIPPING = 0.5
"""Share of scenes told with slips; the probabilities of one at each number and at each word of the caption:"""
SLIPS_COUNTING, SLIPS_NAMING = 0.4, 0.01


@dataclass(frozen=True)
class Judged:
    """A sampled transcript (ids after the prompt); for each stage, where it ends in them and whether it is right."""

    example: Example
    ids: tuple[int, ...]
    verdicts: tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class Batch:
    """Shapes: input_ids, position_ids, targets, weights (batch, length); mask (batch, 1, length, length), additive;
    pixel_values (batch, 1, 3, side, side). `weights` of the targets sum to about 1."""

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    pixel_values: Tensor
    targets: Tensor
    weights: Tensor


class Collator:
    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._id = {name: token_id(tokenizer, name) for name in (ASK, YES, NO, END)}
        image = "<fake_token_around_image><global-img>" + "<image>" * IMAGE_SEQ_LEN + "<fake_token_around_image>"
        self._before, self._after = self.encode(USER + image), self.encode(ASSISTANT)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def prompt(self, question: str) -> list[int]:
        """The ids that the chat template and the processor make of one image and a question."""
        return [*self._before, *self.encode(question), *self._after]

    def length(self, example: Example) -> int:
        return len(self.prompt(example.question)) + len(self.encode(example.text)) + 1

    def fits(self, one: Judged) -> bool:
        """Whether one of LENGTHS is long enough for it."""
        return len(self._judged(one).ids) <= LENGTHS[-1]

    def __call__(
        self, examples: Sequence[Example], judged: Sequence[Judged] = (), *, rng: random.Random | None = None
    ) -> Batch:
        """With `rng`, half of the scenes are told with slips, and every stage is judged."""
        rows = [self._learned(example, rng) for example in examples] + [self._judged(one) for one in judged]
        length = next(length for length in LENGTHS if length >= max(len(row.ids) for row in rows))
        images = [one.image for one in examples] + [one.example.image for one in judged]
        targets, asked = torch.full((len(rows), length), -100), torch.zeros(len(rows), length, dtype=torch.bool)
        for number, row in enumerate(rows):
            targets[number, list(row.targets)] = torch.tensor(list(row.targets.values()))
            asked[number, list(row.branches)] = True
        spoken = (targets != -100) & ~asked
        weights = spoken / spoken.sum().clamp(min=1) + JUDGED_WEIGHT * asked / asked.sum().clamp(min=1)
        return Batch(
            torch.tensor([row.ids + [0] * (length - len(row.ids)) for row in rows]),
            torch.tensor([row.positions + [0] * (length - len(row.ids)) for row in rows]),
            torch.stack([_mask(row, length) for row in rows])[:, None],
            torch.stack([pixels(image) for image in images])[:, None],
            targets,
            weights,
        )

    def _learned(self, example: Example, rng: random.Random | None) -> "_Row":
        prompt = self.prompt(example.question)
        said, wrong = self._told(example, rng)
        ids = [*prompt, *said, self._id[END]]
        targets = {at: ids[at + 1] for at in range(len(prompt) - 1, len(ids) - 1) if at + 1 - len(prompt) not in wrong}
        row = _Row(ids, list(range(len(ids))), targets, {})
        if rng is None:
            return row
        verdicts = self.judge(example, said).verdicts
        return row.asking(self._id[ASK], {len(prompt) + end: self._id[YES if right else NO] for end, right in verdicts})

    def _told(self, example: Example, rng: random.Random | None) -> tuple[list[int], set[int]]:
        """The ids of a transcript, and which of them are slips."""
        if not (rng and isinstance(example, Scene) and rng.random() < SLIPPING):
            return self.encode(example.text), set()
        text, starts = unmarked(example.told(Slipping(rng, counts=SLIPS_COUNTING, words=SLIPS_NAMING)))
        encoded = self.tokenizer(text, add_special_tokens=False)
        return list(encoded["input_ids"]), {encoded.char_to_token(start) for start in starts}

    def _judged(self, one: Judged) -> "_Row":
        prompt = self.prompt(one.example.question)
        ids = [*prompt, *one.ids]
        verdicts = {len(prompt) + end: self._id[YES if right else NO] for end, right in one.verdicts}
        return _Row(ids, list(range(len(ids))), {}, {}).asking(self._id[ASK], verdicts)

    def judge(self, example: Example, ids: Sequence[int]) -> Judged:
        """Check a transcript stage by stage."""
        verdicts, start = [], 0
        for stage in Stage:
            closing = token_id(self.tokenizer, stage.closing)
            if closing not in ids[start:]:
                break
            end = ids.index(closing, start) + 1
            text = str(self.tokenizer.decode(list(ids[start:end]), skip_special_tokens=False))
            said = text.removeprefix(stage.opening).removesuffix(stage.closing)
            verdicts.append((end, text.startswith(stage.opening) and is_true(example, stage, said)))
            start = end
        return Judged(example, tuple(ids), tuple(verdicts))


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    positions: list[int]
    targets: dict[int, int]
    branches: dict[int, int]
    """Where the verifier is asked, and how much of the transcript it sees there."""

    def asking(self, ask: int, verdicts: Mapping[int, int]) -> "_Row":
        """With a branch at each end of a stage, on which the verdict is learned."""
        asks = range(len(self.ids), len(self.ids) + len(verdicts))
        return _Row(
            self.ids + [ask] * len(verdicts),
            [*self.positions, *verdicts],
            {**self.targets, **dict(zip(asks, verdicts.values(), strict=True))},
            dict(zip(asks, verdicts, strict=True)),
        )


def pixels(image: Image) -> Tensor:
    """(3, side, side), as the checkpoint's image processor makes of a picture of its own size."""
    values = torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 255
    return (values - IMAGE_MEAN) / IMAGE_STD


def _mask(row: _Row, length: int) -> Tensor:
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    for at, end in row.branches.items():
        allowed[at, end:at] = False
    return torch.zeros(length, length, dtype=torch.bfloat16).masked_fill(~allowed, torch.finfo(torch.bfloat16).min)
