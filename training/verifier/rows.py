"""What a verifier is trained on, token by token: stages with the verdict that follows, and whole answers.

A stage is judged in training exactly where the server reads the verdict. For the head `token` (its scorer `verifier`)
the stages so far follow the prompt, then the ids of ASK, and the next token is the verdict. For the head `score` (its
scorer `reward_model`) the stages so far are the assistant's turn of a conversation, and what is read is its last token.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from training.checkpoint import ASK, NO, YES
from training.collate import IGNORED, Collator, Turn
from training.config import ConfigError, Data
from training.records import load_records
from training.verifier.config import Answers, Head
from training.verifier.label import Judged, Labelled
from training.verifier.problem import open_picture

PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""What processors tell of each token; the rest is of pictures."""


class Verdicts:
    """The ids of a verdict and of the question for it."""

    def __init__(self, collate: Collator) -> None:
        """Raises ConfigError where a verdict is not a single token."""
        self._collate = collate
        self.ask = self._encode(ASK)
        self.yes, self.no = self._single(YES), self._single(NO)

    def _single(self, text: str) -> int:
        ids = self._encode(text)
        if len(ids) != 1:
            raise ConfigError(f"model.name: its tokenizer makes {len(ids)} tokens of the verdict {text!r}")
        return ids[0]

    def _encode(self, text: str) -> list[int]:
        return list(self._collate.tokenizer.encode(text, add_special_tokens=False))

    def tail(self, head: Head, question: str, judged: Judged) -> list[int]:
        """What follows the prompt; its last id is the verdict, which is learned from the one before."""
        read = self._asked(judged) if head == "token" else self._told(question, judged)
        return [*read, self.yes if judged.right else self.no]

    def _asked(self, judged: Judged) -> list[int]:
        """Each stage by itself, as it was sampled, and the question."""
        return [*(token for text in judged.texts for token in self._encode(text)), *self.ask]

    def _told(self, question: str, judged: Judged) -> list[int]:
        """The rest of the conversation as the chat template has it, with the end of the turn."""
        tokens = self._collate.tokens([Turn(question=question, answer="".join(judged.texts))])
        return list(tokens.ids[tokens.learned.index(True) :])


def verdict_rows(labelled: Iterable[Labelled], collate: Collator, head: Head) -> Dataset:
    """A row for each judged stage, in their order. Raises ConfigError."""
    verdicts = Verdicts(collate)
    rows = [
        _row(
            one.problem.image,
            one.problem.question,
            tail := verdicts.tail(head, one.problem.question, judged),
            _last_of(tail),
            judged=True,
        )
        for one in labelled
        for judged in one.judged
    ]
    if not rows:
        raise ConfigError("labels: hold no judged stage")
    return Dataset.from_list(rows)


def with_answers(judged: Dataset, answers: Answers, collate: Collator, *, seed: int, cache: Path) -> Dataset:
    """`judged` and as many whole answers as make up their share. Raises ConfigError."""
    data = Data(train=answers.records, images=answers.images, max_tokens=answers.max_tokens)
    records = load_records(data, collate, seed=seed, cache=cache).train
    wanted = round(len(judged) * answers.share / (1 - answers.share))
    rng = random.Random(seed)
    repeats, rest = divmod(wanted, len(records))
    drawn = [*range(len(records))] * repeats + rng.sample(range(len(records)), rest)
    rows = [_answer_row(records[number], answers.images, collate) for number in drawn]
    return concatenate_datasets([judged, Dataset.from_list(rows)])


def _answer_row(record: Mapping[str, Any], images: Path, collate: Collator) -> dict[str, Any]:
    tokens = collate.tokens(record["turns"])
    begin = tokens.learned.index(True)
    picture, question = str(images / record["picture"]), record["turns"][0]["question"]
    return _row(picture, question, tokens.ids[begin:], tokens.learned[begin:], judged=False)


def _row(picture: str, question: str, tail: Sequence[int], learned: Sequence[bool], *, judged: bool) -> dict[str, Any]:
    """`tail` is what follows the prompt."""
    return {
        "picture": picture,
        "question": question,
        "tail": tail,
        "learned": learned,
        "judged": judged,
        "length": len(tail),
    }


def _last_of(tail: Sequence[int]) -> list[bool]:
    return [*[False] * (len(tail) - 1), True]


class RowCollator:
    """Rows to a batch, padded on the right; its `judged` tells the rows of verdicts from those of answers."""

    def __init__(self, collate: Collator) -> None:
        self.collate = collate

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        images = [open_picture(row["picture"]) for row in rows]
        prompts = self.collate.prompts(images, [row["question"] for row in rows])
        starts = prompts["attention_mask"].sum(dim=1).tolist()
        batch = _continued(prompts, [row["tail"] for row in rows], self.collate.tokenizer.pad_token_id)
        batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
            tail, learned = torch.tensor(row["tail"]), torch.tensor(row["learned"])
            batch["labels"][number, start : start + len(tail)] = torch.where(learned, tail, IGNORED)
        return {**batch, "judged": torch.tensor([row["judged"] for row in rows])}


def _continued(prompts: Mapping[str, Tensor], tails: Sequence[Sequence[int]], pad_id: int) -> dict[str, Tensor]:
    """Prompts, padded on the left as they come, with what follows them. What holds for the last token of a prompt but
    its id, such as which pictures it sees, holds for what follows too."""
    begins = prompts["attention_mask"].argmax(dim=1).tolist()
    batch = dict(prompts)
    for name in filter(prompts.__contains__, PER_TOKEN):
        values = prompts[name]
        rows = [
            torch.cat(
                [row[begin:], torch.tensor(tail) if name == "input_ids" else row[-1:].repeat_interleave(len(tail), 0)]
            )
            for row, begin, tail in zip(values, begins, tails, strict=True)
        ]
        filler = pad_id if name == "input_ids" else 0
        batch[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)
    return batch
