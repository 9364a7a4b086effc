"""The stage tags as tokens: each one special token of its own, or plain text of several."""

import torch
from torch import nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerFast

from swires.stages import TAGS
from training.checkpoint import ASK
from training.config import ConfigError

MULTIPLE = 64
"""Rows of embeddings come in such multiples, which matrix multiplications are fast with."""


def make_special(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Make the tags and the verifier's question one special token each, and return the ids of those that were none.

    Their rows of the input and the output embeddings begin as the mean of the rows of the pieces that they were read
    as until now, so that at first the model takes a tag for what its text says. Raises ConfigError.
    """
    pieces = {text: _encode(tokenizer, text) for text in (*TAGS, ASK) if not is_special(tokenizer, text)}
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in pieces], special_tokens=True)
    _make_room(model, len(tokenizer))
    ids = {text: _encode(tokenizer, text)[0] for text in pieces}
    with torch.no_grad():
        for weight in _weights(model):
            for text, rows in pieces.items():
                weight[ids[text]] = weight[rows].mean(dim=0)
    return tuple(ids.values())


def leave_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """Raises ConfigError where a tag is a special token already."""
    if special := [tag for tag in TAGS if is_special(tokenizer, tag)]:
        raise ConfigError(f"model.tags: the tokenizer has {special[0]} as one token already, so it can only be special")


def is_special(tokenizer: PreTrainedTokenizerFast, text: str) -> bool:
    """Whether the text is one added token, whatever stands around it."""
    return text in tokenizer.get_added_vocab()


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _make_room(model: PreTrainedModel, num_tokens: int) -> None:
    rows = [len(weight) for weight in _weights(model)]
    if min(rows) >= num_tokens:
        return
    if len(set(rows)) > 1:  # Mllama, whose picture token has a row on the way in alone
        raise ConfigError("model.tags: this model reads more tokens than it can say, so its tags can only be text")
    model.resize_token_embeddings(num_tokens, pad_to_multiple_of=MULTIPLE, mean_resizing=False)
    with torch.no_grad():  # the same in every process and in the export, also where no token has the row
        for weight in _weights(model):
            weight[rows[0] :] = weight[: rows[0]].mean(dim=0)


def _weights(model: PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """The rows of the input and, where it does not share them, of the output embeddings."""
    read, said = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(read, nn.Embedding)
    assert isinstance(said, nn.Linear)
    return (read.weight,) if said.weight is read.weight else (read.weight, said.weight)
