from pathlib import Path

import pytest
from peft import get_peft_model
from torch import nn

from tests.training import tiny
from training.config import ConfigError, Lora, Model, Tower
from training.model import Loaded, adapters, check_sharding, freeze, load_model, tower


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write("qwen2_5_vl", tmp_path / "model")


def loaded(folder: Path, **fields: object) -> Loaded:
    return load_model(Model.model_validate({"name": str(folder), "tags": "special", **fields}))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_each_parameter_is_in_a_tower(family: str) -> None:
    model, _ = tiny.FAMILIES[family]()
    towers = {name: tower(name) for name, _ in model.named_parameters()}
    assert set(towers.values()) == {"vision", "projector", "language"}
    assert {towers[name] for name in towers if "embed_tokens" in name or name.startswith("lm_head")} == {"language"}


@pytest.mark.parametrize("frozen", ["vision", "projector", "language"])
def test_frozen_towers_do_not_learn(frozen: Tower) -> None:
    model, _ = tiny.FAMILIES["qwen3_vl"]()
    freeze(model, frozenset({frozen}))
    assert {tower(name) for name, weight in model.named_parameters() if not weight.requires_grad} == {frozen}
    assert {tower(name) for name, weight in model.named_parameters() if weight.requires_grad} == {
        "vision",
        "projector",
        "language",
    } - {frozen}


def test_a_tower_that_no_name_tells_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.frozen: this model has no vision tower"):
        freeze(nn.Linear(2, 2), frozenset({"vision"}))


def test_adapters_on_the_towers_that_learn_and_rows_of_new_tags(folder: Path) -> None:
    frozen = frozenset[Tower]({"vision", "projector"})
    base = loaded(folder, frozen=sorted(frozen))
    model = get_peft_model(base.model, adapters(base, Lora(r=2, lora_alpha=4), frozen))
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {tower(name) for name in learning} == {"language"}
    rows = {name.split(".token_adapter")[0] for name in learning if "trainable_tokens" in name}
    assert {name.rpartition(".")[2] for name in rows} == {"embed_tokens", "lm_head"}
    assert not any("lm_head" in name and "lora" in name for name in learning)
    assert sum("lora_A" in name for name in learning) == 2 * 7  # layers, and projections in each


def test_rows_that_are_learned_of_shared_embeddings_are_not_sharded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = {"r": 2, "lora_alpha": 4}
    shared, apart = tiny.write("qwen3_vl", tmp_path / "shared"), folder
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for name, tags, adapted in ((apart, "special", lora), (shared, "text", lora), (shared, "special", None)):
        config = Model.model_validate({"name": str(name), "tags": tags, "lora": adapted})
        check_sharding(load_model(config), config)
    config = Model.model_validate({"name": str(shared), "tags": "special", "lora": lora})
    with pytest.raises(ConfigError, match=r"model\.lora: FSDP cannot cut .* --multi_gpu"):
        check_sharding(load_model(config), config)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    check_sharding(load_model(config), config)


def test_without_new_tags_no_rows_learn(folder: Path) -> None:
    base = loaded(folder, tags="text")
    assert adapters(base, Lora(r=2, lora_alpha=4), frozenset()).trainable_token_indices is None


def test_the_image_processor_is_changed_and_saved(folder: Path, tmp_path: Path) -> None:
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    base = loaded(folder, image_processor={"size": size})
    base.processor.save_pretrained(tmp_path / "saved")
    assert '"longest_edge": 12544' in (tmp_path / "saved" / "processor_config.json").read_text()
    with pytest.raises(ConfigError, match=r"model\.image_processor\.max_pixel: Qwen2VLImageProcessor has no such"):
        loaded(folder, image_processor={"max_pixel": 3})


def test_weights_are_kept_as_stored_or_as_told(folder: Path) -> None:
    assert str(loaded(folder).model.dtype) == "torch.float32"
    assert str(loaded(folder, dtype="bfloat16").model.dtype) == "torch.bfloat16"


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path / "none")
    assert str(caught.value).startswith(f"model.name: {tmp_path / 'none'}: ")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_pad_is_refused(folder: Path) -> None:
    text = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(text.replace('"pad_token": "<|endoftext|>",', ""))
    with pytest.raises(ConfigError, match="has a tokenizer without a padding token"):
        loaded(folder)
