from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from swires.stages import TAGS
from tests.training import tiny
from training.checkpoint import ASK
from training.config import ConfigError, Model
from training.model import load_model
from training.tags import is_special, make_special

ALL = (*TAGS, ASK)


def parts(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    model, processor = tiny.FAMILIES[family]()
    return model, processor.tokenizer


def rows(model: PreTrainedModel) -> list[Tensor]:
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return [module.weight.detach().clone() for module in modules if isinstance(module, nn.Embedding | nn.Linear)]


@pytest.mark.parametrize("family", ["idefics3", "qwen2_5_vl", "qwen3_vl", "llava"])
def test_tags_become_single_tokens_that_begin_as_their_words(family: str) -> None:
    model, tokenizer = parts(family)
    words = {text: tokenizer.encode(text, add_special_tokens=False) for text in ALL}
    assert min(map(len, words.values())) > 1
    before = rows(model)
    new = make_special(model, tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(new)) == list(ALL)
    for text in ALL:
        assert is_special(tokenizer, text)
        assert tokenizer.encode(f"a{text}b", add_special_tokens=False).count(tokenizer.convert_tokens_to_ids(text)) == 1
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=True) == ""
    for old, now in zip(before, rows(model), strict=True):  # of the input and the output embeddings
        assert torch.equal(now[: len(old)][: min(new)], old[: min(new)])
        for id_, text in zip(new, ALL, strict=True):
            torch.testing.assert_close(now[id_], old[words[text]].mean(dim=0))


def test_embeddings_stay_shared_or_apart() -> None:
    for family, shared in (("qwen3_vl", True), ("qwen2_5_vl", False)):
        model, tokenizer = parts(family)
        make_special(model, tokenizer)
        read, said = model.get_input_embeddings(), model.get_output_embeddings()
        assert (read.weight is said.weight) == shared


def test_tags_that_are_special_already_are_left_as_they_are(checkpoint: Path) -> None:
    loaded = load_model(Model(name=str(checkpoint), tags="special"))
    assert loaded.new_tags == ()
    with pytest.raises(ConfigError, match=r"model\.tags: the tokenizer has <SUMMARY> as one token already"):
        load_model(Model(name=str(checkpoint), tags="text"))


def test_a_model_that_cannot_say_more_tokens_has_tags_as_text() -> None:
    model, tokenizer = parts("mllama")
    with pytest.raises(ConfigError, match=r"model\.tags: .* its tags can only be text"):
        make_special(model, tokenizer)
