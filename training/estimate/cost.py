"""What a run costs.

A token costs 2 FLOPs for each weight that it goes through in the forward pass, as many for the gradient of what the
layer was given, for the gradient of the weight where that learns, and, under gradient checkpointing, for the forward
pass again: 6 N T, or 8 N T. Attention costs 4 FLOPs in the forward pass for each layer, unit of its width, and token
that this one attends to; as many again under gradient checkpointing, and twice as many in the backward pass.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from training.config import CONFIGS, ConfigError, Run, Tower, load
from training.estimate.architectures import PUBLISHED
from training.estimate.pictures import Picture, picture
from training.model import tower

GB = 1e9
PEAK = 989e12
"""FLOP/s of an H100 SXM in dense bf16; it and the 80 GB are from NVIDIA's data sheet."""

RECORDS, TEXT_TOKENS = 99_000, 650
"""LLaVA-CoT-100k: 99 k records (arXiv 2411.10440, table 1) are 291 MB of JSON Lines; at an assumed 4.5 bytes a token
each has 650 tokens of text."""

PAPER_CONFIG = CONFIGS / "llama_3_2_11b_vision.yaml"
PAPER_GPUS, PAPER_HOURS = 8, 15.0
"""What the authors' own run took, https://github.com/PKU-YuanGroup/LLaVA-CoT/issues/7."""

TUNED = 0.35
"""Share of the peak that a run of this size reaches where nothing holds the GPUs back: assumed."""

RESERVED = 5 * GB
"""CUDA's context, NCCL's buffers, a tile of logits, what the allocator loses: assumed."""

LEARNED_BYTES = 4 + 4 + 8
"""Of a weight that learns: itself, its gradient, and AdamW's two moments, in float32."""


@dataclass(frozen=True)
class Part:
    """Weights that so many tokens of a record go through, in layers or not. `attended` sums over the layers how many
    tokens one attends to; `kept` are the bytes that autograd keeps of a token inside one layer."""

    name: str
    tower: Tower
    weights: int
    tokens: int
    layers: int = 0
    hidden: int = 0
    width: int = 0
    attended: float = 0
    kept: int = 0

    @property
    def linear(self) -> float:
        """FLOPs of a forward pass but for attention."""
        return 2.0 * self.weights * self.tokens

    @property
    def attention(self) -> float:
        return 4.0 * self.width * self.attended * self.tokens


@dataclass(frozen=True)
class Learning:
    frozen: frozenset[Tower]
    adapters: bool
    checkpointing: bool

    def flops(self, part: Part) -> float:
        linear, attention = self.passes(part.tower)
        return linear * part.linear + attention * part.attention

    def passes(self, tower: Tower) -> tuple[int, int]:
        """What a tower costs in forward passes: its weights, and its attention."""
        if not self.reaches(tower):
            return 1, 1
        whole = not self.adapters and tower not in self.frozen
        return 2 + whole + self.checkpointing, 3 + self.checkpointing

    def reaches(self, tower: Tower) -> bool:
        """Whether the backward pass does; through the language model it goes to whatever learns."""
        return tower == "language" or tower not in self.frozen


@dataclass(frozen=True)
class Weights:
    """How many in each tower. Of the language model's, `looked_up` are rows that are not multiplied with, `aside` those
    that only tokens beside the text go through, and `head` those that say the next token. `adapters` are LoRA's."""

    towers: Counter[str]
    looked_up: int
    aside: int
    head: int
    adapters: int

    @property
    def total(self) -> int:
        return self.towers.total()


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU while it works on a batch of the longest records."""

    states: float
    gathered: float
    activations: float
    reserved: float = RESERVED

    @property
    def total(self) -> float:
        return self.states + self.gathered + self.activations + self.reserved


@dataclass(frozen=True)
class Estimate:
    config: str
    gpus: int
    weights: int
    learned: int
    seen: Picture
    record_tokens: int
    parts: tuple[Part, ...]
    learning: Learning
    records: float
    batch: int
    longest: int
    steps: int
    memory: Memory

    @property
    def record_flops(self) -> float:
        return sum(map(self.learning.flops, self.parts))

    def hours(self, utilisation: float) -> float:
        return self.record_flops * self.records / (self.gpus * PEAK * utilisation) / 3600


def estimate(file: Path, overrides: Iterable[str] = (), *, gpus: int = 8) -> Estimate:
    """Of the run that a config tells; no data is needed yet. Raises ConfigError."""
    if gpus < 1:
        raise ConfigError(f"--gpus: {gpus} are too few, 1 is the least")
    run = load(Run, file, ["data.train=train.jsonl", "data.images=images", *overrides])
    if run.model.name not in PUBLISHED:
        raise ConfigError(f"model.name: {run.model.name} is not among {', '.join(PUBLISHED)}")
    architecture = PUBLISHED[run.model.name]()
    config = architecture.config
    train: dict[str, Any] = DEFAULTS | run.train
    learning = Learning(run.model.frozen, run.model.lora is not None, train["gradient_checkpointing"])
    weights = count(config, run)
    seen = picture(config, architecture.image_processor | run.model.image_processor)
    length = min(TEXT_TOKENS + seen.tokens, run.data.max_tokens)
    records, batch = RECORDS * train["num_train_epochs"], train["per_device_train_batch_size"]
    return Estimate(
        config=file.stem,
        gpus=gpus,
        weights=weights.total,
        learned=_learned(weights, learning),
        seen=seen,
        record_tokens=length,
        parts=parts(config, weights, seen, length),
        learning=learning,
        records=records,
        batch=batch,
        longest=run.data.max_tokens,
        steps=ceil(records / (gpus * batch * train["gradient_accumulation_steps"])),
        memory=Memory(
            states=_states(weights, learning, 4 if run.model.dtype == "float32" else 2) / gpus,
            gathered=_gathered(weights, learning, config.text_config.num_hidden_layers),
            activations=batch * _activations(parts(config, weights, seen, run.data.max_tokens), learning),
        ),
    )


DEFAULTS = {
    "gradient_checkpointing": True,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
}
"""trl.SFTConfig's."""


@cache
def paper_utilisation() -> float:
    """Share of the peak at which the authors' run took the time that they tell."""
    return estimate(PAPER_CONFIG, gpus=PAPER_GPUS).hours(1.0) / PAPER_HOURS


def count(config: PreTrainedConfig, run: Run) -> Weights:
    model = on_meta(config)
    embeddings, said = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    read, head = embeddings.weight, said.weight
    towers: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        towers[str(tower(name))] += parameter.numel()
    return Weights(
        towers,
        looked_up=0 if read is head else read.numel(),
        aside=sum(p.numel() for name, p in model.named_parameters() if re.search(r"cross_attn\.[kv]_proj", name)),
        head=head.numel(),
        adapters=_adapters(model, run) if run.model.lora else 0,
    )


def on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    """The model without memory for its weights."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    assert isinstance(model, PreTrainedModel)
    return model


def parts(config: PreTrainedConfig, weights: Weights, seen: Picture, length: int) -> tuple[Part, ...]:
    """What a record of `length` tokens goes through."""
    text, vision = config.text_config, config.vision_config
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    width, keys = text.num_attention_heads * head_width, text.num_key_value_heads * head_width
    across = len(getattr(text, "cross_attention_layers", ()))
    depth = getattr(vision, "depth", None) or vision.num_hidden_layers + getattr(vision, "num_global_layers", 0)
    return (
        Part(
            "vision",
            "vision",
            weights.towers["vision"],
            seen.patches,
            layers=depth,
            hidden=vision.hidden_size,
            width=vision.hidden_size,
            attended=seen.attended,
            kept=kept(vision.hidden_size, vision.hidden_size, vision.hidden_size, vision.intermediate_size),
        ),
        Part("projector", "projector", weights.towers["projector"], seen.aside or seen.tokens),
        Part("across", "language", weights.aside, seen.aside),
        Part(
            "language",
            "language",
            weights.towers["language"] - weights.looked_up - weights.aside,
            length,
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            width=width,
            attended=(text.num_hidden_layers - across) * length / 2 + across * seen.aside,
            kept=kept(text.hidden_size, width, keys, text.intermediate_size, gated=True),
        ),
    )


def kept(hidden: int, queries: int, keys: int, inner: int, *, gated: bool = False) -> int:
    """Bytes of a token inside one layer in bf16: what two norms are given and give, in float32 and bf16; q, k, v, and
    what attention gives; what the feed-forward layer multiplies."""
    norms = 2 * (4 + 2 + 2) * hidden
    attention = 2 * (3 * queries + 2 * keys)
    return norms + attention + 2 * inner * (4 if gated else 2)


def _learned(weights: Weights, learning: Learning) -> int:
    if learning.adapters:
        return weights.adapters
    return sum(number for name, number in weights.towers.items() if name not in learning.frozen)


def _adapters(model: PreTrainedModel, run: Run) -> int:
    assert run.model.lora
    said = model.get_output_embeddings()
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not said and tower(name) not in run.model.frozen
    ]
    return sum(run.model.lora.r * (layer.in_features + layer.out_features) for layer in layers)


def _states(weights: Weights, learning: Learning, stored: int) -> float:
    learned = _learned(weights, learning)
    still = weights.total if learning.adapters else weights.total - learned
    return LEARNED_BYTES * learned + stored * still


def _gathered(weights: Weights, learning: Learning, layers: int) -> float:
    """In bf16: the embeddings, the layer at work and the next, and gradients of embeddings and layer on their way."""
    layer = (weights.towers["language"] - weights.looked_up - weights.head) / layers
    gradients = 0 if learning.adapters else weights.head + layer
    return 2 * (weights.looked_up + weights.head + 2 * layer + gradients)


def _activations(passed: Iterable[Part], learning: Learning) -> float:
    """Of one record: with checkpointing, what each layer was given and the inside of the layer at work."""
    reached = [part for part in passed if learning.reaches(part.tower)]
    if not learning.checkpointing:
        return sum(part.layers * part.kept * part.tokens for part in reached)
    given = sum(2.0 * part.layers * part.hidden * part.tokens for part in reached)
    return given + max(part.kept * part.tokens for part in reached)
