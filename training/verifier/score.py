"""A verifier as a reward model with a scalar head, in the form that vLLM serves as one that classifies.

What vLLM converts so (`vllm.model_executor.models.adapters.as_seq_cls_model`) is any of its generative models, those
with pictures too, whose folder holds `score.weight`, one row for each label. With one label its probability is the
sigmoid of the score of the last token.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from training.collate import Collator
from training.config import ConfigError
from training.verifier.rows import Verdicts

CONVERTED = ("ForConditionalGeneration", "ForSequenceClassification")
"""How vLLM tells by the name of an architecture what it is to do."""


def write_score_model(source: Path, out: Path) -> None:
    """Raises ConfigError."""
    if out.exists():
        raise ConfigError(f"--out: {out} exists already: remove it or name another folder")
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype="auto")
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model: {source}: {' '.join(str(error).split())[:300]}") from error
    model.score = score_head(model, Verdicts(Collator(processor)))
    model.save_pretrained(out)
    processor.save_pretrained(out)
    _rename(out / "config.json")


def score_head(model: PreTrainedModel, verdicts: Verdicts) -> nn.Linear:
    """Of the hidden state from which a verdict is read: the logit of "yes" less that of "no"."""
    said = model.get_output_embeddings().weight
    assert isinstance(said, torch.Tensor)
    head = nn.Linear(said.shape[1], 1, bias=False, dtype=said.dtype, device=said.device)
    with torch.no_grad():
        head.weight.copy_(said[verdicts.yes].float() - said[verdicts.no].float())
    return head


def _rename(config: Path) -> None:
    facts: dict[str, Any] = json.loads(config.read_text())
    facts["architectures"] = [name.replace(*CONVERTED) for name in facts["architectures"]]
    facts["id2label"], facts["label2id"] = {"0": "right"}, {"right": 0}
    config.write_text(json.dumps(facts, indent=2) + "\n")
