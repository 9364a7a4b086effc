"""The arithmetic against what torch counts on models small enough to run, and against what is published."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, LlamaConfig

from tests.training import tiny
from training import __main__ as command
from training.config import CONFIGS, ConfigError, Run, load
from training.estimate.architectures import PUBLISHED
from training.estimate.cost import (
    PAPER_CONFIG,
    PAPER_HOURS,
    Learning,
    count,
    estimate,
    kept,
    on_meta,
    paper_utilisation,
    parts,
)
from training.estimate.pictures import Picture
from training.estimate.report import table

FILES = sorted(CONFIGS.glob("*.yaml"))
README = Path(command.__file__).parent / "README.md"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_of_these_sizes_has_as_many_weights_as_the_published_one(name: str) -> None:
    architecture = PUBLISHED[name]()
    assert sum(weight.numel() for weight in on_meta(architecture.config).parameters()) == architecture.parameters


def test_every_config_is_of_a_published_model() -> None:
    told = {_run(file).model.name for file in FILES}
    assert told == set(PUBLISHED)


def test_the_table_in_the_readme_is_that_of_the_configs() -> None:
    assert table(estimate(file) for file in FILES) in README.read_text()


def test_the_paper_config_takes_the_time_that_the_paper_tells() -> None:
    assert estimate(PAPER_CONFIG, gpus=8).hours(paper_utilisation()) == pytest.approx(PAPER_HOURS)


@pytest.mark.parametrize("family", ["idefics3", "qwen2_5_vl"])
def test_flops_of_the_language_model_are_those_that_torch_counts(family: str, tmp_path: Path) -> None:
    """Of a forward pass; the attention that torch can count looks ahead, too, which is twice as much."""
    folder, tokens = tiny.write(family, tmp_path), 48
    config = AutoConfig.from_pretrained(folder)
    language = parts(config, count(config, _run(FILES[0])), Picture(0, 0, 0), tokens)[-1]
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.full((1, tokens), 5))
    assert language.linear + 2 * language.attention == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_flops_of_a_qwen_picture_are_those_that_torch_counts(tmp_path: Path) -> None:
    folder = tiny.write("qwen2_5_vl", tmp_path)
    config, processor = AutoConfig.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager")
    seen = processor.image_processor(images=[Image.new("RGB", (112, 112))], return_tensors="pt")
    patches = len(seen["pixel_values"])
    picture = Picture(patches, config.vision_config.depth * patches, patches // 4)
    vision, projector, *_ = parts(config, count(config, _run(FILES[0])), picture, patches)
    with FlopCounterMode(display=False) as counter:
        model.model.visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"])
    assert vision.linear + vision.attention + projector.linear == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("grouped", [1, 4])
def test_what_a_layer_keeps_is_what_autograd_saves(grouped: int) -> None:
    hidden, inner, heads, tokens = 128, 352, 4, 64
    keys = hidden // heads * (heads // grouped)

    def saved(layers: int) -> int:
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // grouped,
        )
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        storages: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            model(input_ids=torch.full((1, tokens), 5))
        return sum(storage.nbytes() for storage in storages.values())

    inside = saved(3) - saved(2)
    assert kept(hidden, hidden, keys, inner, gated=True) * tokens == pytest.approx(inside, rel=0.1)


def test_what_is_frozen_costs_a_forward_pass_and_no_memory_to_learn() -> None:
    learning = Learning(frozenset({"vision"}), adapters=False, checkpointing=True)
    assert learning.passes("vision") == (1, 1)
    assert learning.passes("language") == (4, 4)
    adapters = Learning(frozenset({"vision"}), adapters=True, checkpointing=False)
    assert adapters.passes("language") == (2, 3)


def test_more_gpus_share_the_states_and_not_the_activations() -> None:
    one, many = estimate(PAPER_CONFIG, gpus=8), estimate(PAPER_CONFIG, gpus=64)
    assert many.memory.states == pytest.approx(one.memory.states / 8)
    assert many.memory.activations == one.memory.activations
    assert many.hours(0.3) == pytest.approx(one.hours(0.3) / 8)


def test_adapters_learn_little_and_leave_the_rest_as_it_is() -> None:
    whole = estimate(CONFIGS / "qwen2_5_vl_7b.yaml")
    adapters = estimate(CONFIGS / "qwen2_5_vl_7b.yaml", ["model.lora.r=32", "model.lora.lora_alpha=64"])
    assert adapters.learned < whole.learned / 50
    assert adapters.memory.states < whole.memory.states / 2
    assert adapters.record_flops < whole.record_flops


def test_another_model_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model.name: some/model is not among Qwen/"):
        estimate(PAPER_CONFIG, ["model.name=some/model"])


def test_a_run_on_no_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="--gpus: 0"):
        estimate(PAPER_CONFIG, gpus=0)


def test_the_command_prints_the_table_the_arithmetic_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["training", "estimate", *arguments])
        command.main()
        return capsys.readouterr().out

    assert FILES[0].stem in said()
    assert "8 x H100" in said("--config", str(PAPER_CONFIG))
    [numbers] = json.loads(said("--config", str(PAPER_CONFIG), "--json"))
    memory = numbers["memory"]
    assert memory["total"] == pytest.approx(sum(number for name, number in memory.items() if name != "total"), rel=1e-6)


def _run(file: Path) -> Run:
    return load(Run, file, ["data.train=train.jsonl", "data.images=images"])
