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
from training.tasks.truth import is_true

LENGTHS = (128, 152, 184, 224, 272, 384)
"""Batches are padded to one of these, so that the compiled model meets few shapes."""

JUDGED_WEIGHT = 0.5


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
        """With `rng`, numbers that the reasoning states ahead of its list are put wrong in some of the examples."""
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
        prompt, said = self.prompt(example.question), self.encode(example.text)
        wrong = self._put_wrong(said, rng) if rng and example.cells else ()
        ids = [*prompt, *said, self._id[END]]
        targets = {at: ids[at + 1] for at in range(len(prompt) - 1, len(ids) - 1)}
        for at in wrong:
            del targets[len(prompt) + at - 1]
        row = _Row(ids, list(range(len(ids))), targets, {})
        return row.asking(self._id[ASK], self._verdicts(example, said, len(prompt))) if rng else row

    def _put_wrong(self, said: list[int], rng: random.Random) -> list[int]:
        """Changes, in about half of the lines of a scene's reasoning, how many it says at their beginning, and what
        follows from that of the last one; returns where a number is now wrong that is not to be learned.

        What the lines then list stays true, and so must be learned from the things alone: with right numbers only, a
        model learns to make its list fit the number, and no list ever tells a wrong one.
        """
        words = [str(self.tokenizer.decode([token])) for token in said]
        wrong = []
        for at, word in enumerate(words):
            if word != " of" or rng.random() < 0.5:
                continue
            right, total = int(words[at - 1]), int(words[at + 1])
            number = rng.choice([each for each in range(total + 1) if each != right] or [right])
            if number == right:
                continue
            said[at - 1] = self._number(number)
            wrong.append(at - 1)
            left, is_last = number, "\n" not in words[at:]
            if words[at + 2] == " go":
                left, said[at + 4] = total - number, self._number(total - number)
            if is_last:
                (said[-2],) = self.encode(str(left))
        return wrong

    def _number(self, number: int) -> int:
        (token,) = self.encode(f" {number}")
        return token

    def _verdicts(self, example: Example, said: Sequence[int], start: int) -> dict[int, int]:
        judged = self.judge(example, said)
        return {start + end: self._id[YES if right else NO] for end, right in judged.verdicts}

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
