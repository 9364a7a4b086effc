"""A verifier as a reward model with a scalar head, in the form that vLLM serves as one that classifies.

vLLM converts its generative models so, those with pictures too (`vllm.model_executor.models.adapters.as_seq_cls_model`,
vLLM 0.32): the folder holds the head's weight, a row for each label. With one label its probability is the sigmoid of
the score of the last token.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from training.collate import Collator
from training.config import ConfigError
from training.verifier.rows import Verdicts

CONVERTED = ("ForConditionalGeneration", "ForSequenceClassification")
"""How vLLM tells by the name of an architecture what it is to do."""

WEIGHTS = {
    "idefics3": "score.weight",
    "smolvlm": "score.weight",
    "qwen2_5_vl": "language_model.score.weight",
    "qwen3_vl": "score.weight",
}
"""Where vLLM looks for the head, by the type of the model: within the language model where that is one of its own."""


def write_score_model(source: Path, out: Path) -> None:
    """Raises ConfigError."""
    if out.exists():
        raise ConfigError(f"--out: {out} exists already: remove it or name another folder")
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype="auto")
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model: {source}: {' '.join(str(error).split())[:300]}") from error
    if (kind := model.config.model_type) not in WEIGHTS:
        raise ConfigError(f"--model: vLLM is not known to score with a {kind}; it does with {', '.join(WEIGHTS)}")
    head = score_weight(model, Verdicts(Collator(processor)))
    model.save_pretrained(out, state_dict={**model.state_dict(), WEIGHTS[kind]: head})
    processor.save_pretrained(out)
    _rename(out / "config.json")


def score_weight(model: PreTrainedModel, verdicts: Verdicts) -> Tensor:
    """On the hidden state from which a verdict is read: the logit of "yes" less that of "no"."""
    said = model.get_output_embeddings().weight
    assert isinstance(said, Tensor)
    return (said[verdicts.yes].float() - said[verdicts.no].float()).to(said.dtype).detach()[None]


def _rename(config: Path) -> None:
    facts: dict[str, Any] = json.loads(config.read_text())
    facts["architectures"] = [name.replace(*CONVERTED) for name in facts["architectures"]]
    for part in (facts, facts["text_config"]):
        part["id2label"], part["label2id"] = {"0": "right"}, {"right": 0}
    config.write_text(json.dumps(facts, indent=2) + "\n")
