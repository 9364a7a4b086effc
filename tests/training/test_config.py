from pathlib import Path

import pytest

from training.arguments import WITHOUT_EFFECT, arguments
from training.config import CONFIGS, ConfigError, Lora, Run, load

FILES = {
    "internvl3_8b",
    "llama_3_2_11b_vision",
    "qwen2_5_vl_3b",
    "qwen2_5_vl_7b",
    "qwen3_vl_4b",
    "qwen3_vl_8b",
    "smolvlm2_2_2b",
}
DATA = ("data.train=records.jsonl", "data.images=images")
CPU = {"use_cpu": True}


def shipped(name: str, *overrides: str) -> Run:
    return load(Run, CONFIGS / f"{name}.yaml", (*DATA, *overrides))


def test_every_config_is_looked_at() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == FILES


@pytest.mark.parametrize("name", sorted(FILES))
def test_configs_are_what_trl_takes(name: str) -> None:
    run = shipped(name)
    options = arguments(run.train | CPU)
    assert {field: getattr(options, field) for field in ("learning_rate", "bf16", "seed")} == {
        "learning_rate": 1e-5,
        "bf16": True,
        "seed": 42,
    }
    assert options.output_dir == f"training/runs/{name}"
    assert run.data.train == (Path("records.jsonl"),)


def test_the_papers_hyperparameters() -> None:
    """arXiv 2411.10440v6, appendix C, table 6, and the command in the repository's train/README."""
    run = shipped("llama_3_2_11b_vision")
    options = arguments(run.train | CPU)
    assert run.model.name == "meta-llama/Llama-3.2-11B-Vision-Instruct"
    assert (run.model.tags, run.model.lora, run.model.frozen) == ("text", None, frozenset())
    assert (run.data.max_tokens, run.gamma) == (4096, 0.85)
    assert (options.num_train_epochs, options.learning_rate, options.weight_decay) == (3, 1e-5, 0.0)
    assert (options.per_device_train_batch_size, options.gradient_accumulation_steps) == (4, 1)
    assert (options.max_grad_norm, options.bf16, options.fp16, options.seed) == (0.0, True, False, 42)
    assert (options.optim, options.warmup_steps, options.eval_strategy) == ("adamw_torch", 0, "no")
    assert (options.adam_beta1, options.adam_beta2, options.adam_epsilon) == (0.9, 0.999, 1e-8)
    assert (options.train_sampling_strategy, run.model.attention) == ("group_by_length", "sdpa")
    assert (options.gradient_checkpointing, run.model.dtype, run.data.evaluation_share) == (True, "float32", 0.0)


def test_overrides_go_into_the_sections() -> None:
    run = shipped("qwen2_5_vl_7b", "model.lora.r=8", "model.lora.lora_alpha=16", "train.learning_rate=2e-4")
    assert run.model.lora == Lora(r=8, lora_alpha=16)
    assert run.train["learning_rate"] == 2e-4
    assert shipped("qwen2_5_vl_7b", "data.train=[a.jsonl, b.jsonl]").data.train == (Path("a.jsonl"), Path("b.jsonl"))
    assert shipped("qwen2_5_vl_7b", "model.frozen=[]").model.frozen == frozenset()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("model.nam=x",), "model.nam: there is no such field"),
        (("models.name=x",), "models: there is no such field"),
        (("model.lora.rank=8",), "model.lora.rank: there is no such field"),
        (("model.frozen=[ears]",), "model.frozen.0: Input should be 'vision', 'projector' or 'language'"),
        (("model.tags=none",), "model.tags: Input should be 'special' or 'text'"),
        (("data.max_tokens=0",), "data.max_tokens: Input should be greater than 0"),
        (("data.images=",), "data.images: Input is not a valid path"),
        (("data.train=null",), "data.train: Value should have at least 1 item"),
        (("data.evaluation=held_out.jsonl",), "evaluation and evaluation_share exclude each other"),
        (("gamma=0.9",), "gamma and train.lr_scheduler_type exclude each other"),
        (("train.seed",), "'train.seed' is not of the form section.key=value"),
        (("=1",), "'=1' is not of the form section.key=value"),
        (("train.seed=[",), "train.seed: while parsing"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(overrides: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shipped("qwen2_5_vl_7b", *overrides)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"model: {", "while parsing"),
        (b"- model", "is no mapping of sections"),
        (b"", "is no mapping of sections"),
        (b"\xff", "can't decode byte"),
        (b"{}", "model: is not set; give it in the file or as model=VALUE"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, text: bytes, complaint: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(Run, file)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory"):
        load(Run, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        ({}, "train.output_dir: is not set; give it in the file or as train.output_dir=FOLDER"),
        ({"learning_rat": 1}, "train.learning_rat: trl.SFTConfig has no such field; learning_rate?"),
        ({"xyzzy": 1}, "train.xyzzy: trl.SFTConfig has no such field"),
        ({"learning_rate": "fast"}, "train.learning_rate: Input should be a valid number"),
        ({"eval_strategy": "sometimes"}, "train: sometimes is not a valid IntervalStrategy"),
        *(({name: 1}, f"train.{name}: is not to be set: {reason}") for name, reason in WITHOUT_EFFECT.items()),
    ],
)
def test_what_trl_would_not_take_is_refused(train: dict[str, object], complaint: str) -> None:
    told = train and {"output_dir": "run", **CPU, **train}
    with pytest.raises(ConfigError) as caught:
        arguments(told)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
