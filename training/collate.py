"""Conversations about a picture to batches, of which only what the assistant says is learned.

Where that is comes from the chat template itself: a conversation is rendered up to an answer with the prompt that asks
for it, and through the answer, and what lies between is what the model will have to say, from its first character
through the token that ends the turn. The fast tokenizer tells which tokens these are. This asks of a template only that
a conversation that goes on begins like the one that does not, and so holds for checkpoints nobody has written a
`{% generation %}` block for, for whatever template the checkpoint is served with, and for text before the answer that
the template adds to prompts alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeAlias, TypedDict

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast, ProcessorMixin

from swires.stages import TAGS
from training.config import ConfigError

_TAG = re.compile("|".join(map(re.escape, TAGS)))

IGNORED = -100
"""The label that torch's cross entropy passes over."""

Messages: TypeAlias = list[dict[str, Any]]


class Turn(TypedDict):
    question: str
    answer: str


class Chat(NamedTuple):
    """A conversation about a picture, which goes before the first question."""

    image: Image.Image
    turns: Sequence[Turn]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of a conversation in which the picture is one token still; `learned` marks what the assistant says."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


class Collator:
    """What the model is given of conversations: a padded batch with labels, or prompts to answer.

    Raises ConfigError for a chat template from which it cannot be told what the assistant says.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        if not isinstance(processor.chat_template, str):
            raise ConfigError("the model has no chat template, or several of which none is the one")
        self._template = processor.chat_template
        self._added = frozenset(self.tokenizer.added_tokens_decoder)
        self._special = re.compile("|".join(map(re.escape, self.tokenizer.get_added_vocab())))
        self._image_tokens = cache(self._count_image_tokens)

    def __call__(self, chats: Sequence[Chat]) -> Mapping[str, Tensor]:
        texts = [self._render(_messages(chat.turns)) for chat in chats]
        batch = self._process(texts, [chat.image for chat in chats], "right")
        batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        for row, (chat, length) in enumerate(zip(chats, lengths, strict=True)):
            tokens = self.tokens(chat.turns)
            begin = tokens.learned.index(True)
            ids, learned = torch.tensor(tokens.ids[begin:]), torch.tensor(tokens.learned[begin:])
            at = slice(length - len(ids), length)
            if not torch.equal(batch["input_ids"][row, at], ids):
                raise ConfigError("the processor changes a conversation after its picture; it cannot be learned from")
            batch["labels"][row, at] = torch.where(learned, ids, IGNORED)
        return batch

    def prompts(self, images: Sequence[Image.Image], questions: Sequence[str]) -> Mapping[str, Tensor]:
        """Padded on the left, to generate from."""
        texts = [self._render(_question(question), asking=True) for question in questions]
        return self._process(texts, images, "left")

    def length(self, turns: Sequence[Turn], size: tuple[int, int]) -> int:
        """Tokens of a conversation about a picture of this width and height, which is not looked at."""
        return len(self.tokens(turns).ids) + self._image_tokens(size)

    def special_in(self, turns: Sequence[Turn]) -> str | None:
        """The first text in a conversation that would be read as a special token: as the end of a turn, or as a second
        picture. The stage tags belong into answers."""
        for turn in turns:
            if found := self._special.search(turn["question"]) or self._special.search(_TAG.sub("", turn["answer"])):
                return found[0]
        return None

    def tokens(self, turns: Sequence[Turn]) -> Tokens:
        messages = _messages(turns)
        text = self._render(messages)
        spans = [self._span(messages, number, text) for number in range(1, len(messages), 2)]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        learned = [any(begin <= start and end <= stop for begin, stop in spans) for start, end in offsets]
        if any(start < edge < end for start, end in offsets for span in spans for edge in span):
            raise ConfigError("the chat template lets a token reach across the beginning or the end of an answer")
        self._check_ends(ids, learned, len(spans))
        return Tokens(tuple(ids), tuple(learned))

    @cached_property
    def end_id(self) -> int:
        """The token that ends an answer."""
        tokens = self.tokens([Turn(question="?", answer="!")])
        return tokens.ids[len(tokens.learned) - 1 - tokens.learned[::-1].index(True)]

    def _span(self, messages: Messages, number: int, text: str) -> tuple[int, int]:
        """The characters of the answer that is message `number`, without white space after its end of turn."""
        before = self._render(messages[:number], asking=True)
        through = self._render(messages[: number + 1]).rstrip()
        if not (text.startswith(through) and through.startswith(before) and len(before) < len(through)):
            raise ConfigError("the chat template writes a conversation anew when it goes on; it cannot be learned from")
        return len(before), len(through)

    def _check_ends(self, ids: Sequence[int], learned: Sequence[bool], answers: int) -> None:
        following = (*learned[1:], False)
        lasts = [id_ for id_, now, then in zip(ids, learned, following, strict=True) if now and not then]
        if len(lasts) != answers or not self._added.issuperset(lasts):
            raise ConfigError(
                "the chat template ends answers without a special token; the model could not learn to stop"
            )

    def _render(self, messages: Messages, *, asking: bool = False) -> str:
        """By the tokenizer: a processor would complain of each template that adds nothing to prompts."""
        text = self.tokenizer.apply_chat_template(
            messages, chat_template=self._template, tokenize=False, add_generation_prompt=asking
        )
        assert isinstance(text, str)
        return text

    def _process(self, texts: Sequence[str], images: Sequence[Image.Image], side: str) -> dict[str, Tensor]:
        """Templates write the special tokens themselves, as when serving."""
        return dict(
            self.processor(
                text=list(texts),
                images=[[image] for image in images],
                padding=True,
                padding_side=side,
                add_special_tokens=False,
                return_tensors="pt",
            )
        )

    def _count_image_tokens(self, size: tuple[int, int]) -> int:
        """How many more tokens than one a picture of this size takes."""
        text = self._render(_question("?"))
        batch = self._process([text], [Image.new("RGB", size)], "right")
        return batch["input_ids"].shape[1] - len(self.tokenizer.encode(text, add_special_tokens=False))


def _question(question: str) -> Messages:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


def _messages(turns: Sequence[Turn]) -> Messages:
    messages = _question(turns[0]["question"])
    for number, turn in enumerate(turns):
        if number:
            messages.append({"role": "user", "content": [{"type": "text", "text": turn["question"]}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn["answer"]}]})
    return messages
