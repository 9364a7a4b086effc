"""A vision language model to train: its weights and processor, its tags, which towers learn, and adapters on them."""

from collections.abc import Iterator
from dataclasses import dataclass

from accelerate.utils import parse_flag_from_env
from peft import LoraConfig
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from training.config import ConfigError, Lora, Model, Tower
from training.tags import leave_as_text, make_special

TOWERS: dict[str, Tower] = {
    "visual": "vision",
    "vision_model": "vision",
    "vision_tower": "vision",
    "merger": "projector",
    "deepstack_merger_list": "projector",
    "connector": "projector",
    "multi_modal_projector": "projector",
    "image_newline": "projector",
    "text_model": "language",
    "language_model": "language",
    "lm_head": "language",
}
"""What architectures call their parts."""


@dataclass(frozen=True)
class Loaded:
    """`new_tags` are ids whose embeddings no training has seen yet."""

    model: PreTrainedModel
    processor: ProcessorMixin
    new_tags: tuple[int, ...]

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer = self.processor.tokenizer
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        return tokenizer


def load_model(config: Model) -> Loaded:
    """Raises ConfigError."""
    try:
        processor = AutoProcessor.from_pretrained(config.name, revision=config.revision)
        model = AutoModelForImageTextToText.from_pretrained(
            config.name,
            revision=config.revision,
            dtype=config.dtype or "auto",
            attn_implementation=config.attention,
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"model.name: {config.name}: {' '.join(str(error).split())[:300]}") from error
    _check(processor, config)
    _change_image_processor(processor, config)
    freeze(model, config.frozen)
    return Loaded(model, processor, _tags(model, processor, config))


def freeze(model: nn.Module, towers: frozenset[Tower]) -> None:
    """Raises ConfigError where the model has no part that is known as this tower."""
    found = {name: tower(name) for name, _ in model.named_parameters()}
    if missing := towers - set(found.values()):
        raise ConfigError(f"model.frozen: this model has no {min(missing)} tower that is known by name")
    for name, parameter in model.named_parameters():
        if found[name] in towers:
            parameter.requires_grad_(False)


def tower(name: str) -> Tower | None:
    """Of a module or parameter, by the innermost known part that it is in: Qwen's merger is in its vision tower."""
    return next((TOWERS[part] for part in reversed(name.split(".")) if part in TOWERS), None)


def adapters(loaded: Loaded, lora: Lora, frozen: frozenset[Tower]) -> LoraConfig:
    """LoRA on the linear layers of the towers that learn; rows of new tags are learned, and saved, whole."""
    return LoraConfig(
        **lora.model_dump(),
        target_modules=list(_linear_layers(loaded.model, frozen)),
        trainable_token_indices=_rows(loaded) or None,
        task_type="CAUSAL_LM",
    )


def check_sharding(loaded: Loaded, config: Model) -> None:
    """accelerate would tie embeddings by names that they do not have within peft's wrapper of rows that are learned.
    Raises ConfigError."""
    shared = len(_rows(loaded)) == 1
    if config.lora and shared and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ConfigError(
            "model.lora: FSDP cannot cut adapters that learn rows of this model's embeddings, which are shared: "
            "launch with --multi_gpu, which leaves each GPU the whole model, or set model.tags=text"
        )


def _linear_layers(model: PreTrainedModel, frozen: frozenset[Tower]) -> Iterator[str]:
    said = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not said and tower(name) not in frozen:
            yield name


def _rows(loaded: Loaded) -> dict[str, list[int]]:
    """peft finds output embeddings that share the rows of the input ones by itself."""
    model, rows = loaded.model, list(loaded.new_tags)
    read, said = model.get_input_embeddings(), model.get_output_embeddings()
    modules = [read] if said.weight is read.weight else [read, said]
    return {name: rows for name, module in model.named_modules() if rows and any(module is one for one in modules)}


def _check(processor: ProcessorMixin, config: Model) -> None:
    tokenizer = getattr(processor, "tokenizer", None)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError(f"model.name: {config.name} has no fast tokenizer, which tells where in a text tokens stand")
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"model.name: {config.name} has a tokenizer without a padding token")


def _change_image_processor(processor: ProcessorMixin, config: Model) -> None:
    if not config.image_processor:
        return
    kind, fields = type(processor.image_processor), processor.image_processor.to_dict()
    if unknown := config.image_processor.keys() - fields.keys():
        raise ConfigError(f"model.image_processor.{min(unknown)}: {kind.__name__} has no such field")
    processor.image_processor = kind.from_dict(fields | config.image_processor)


def _tags(model: PreTrainedModel, processor: ProcessorMixin, config: Model) -> tuple[int, ...]:
    if config.tags == "special":
        return make_special(model, processor.tokenizer)
    leave_as_text(processor.tokenizer)
    return ()
