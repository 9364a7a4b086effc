"""A folder that the server can load: bf16 safetensors, processor, chat template and `swires.json`."""

import copy
import json
from pathlib import Path

from transformers import GenerationConfig, Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

from training.model import ASK, NO, YES, make_processor


def export(model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint; the calibration of the scorers is added by `swires calibrate`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model = copy.deepcopy(model).bfloat16()
    model.generation_config = config
    model.save_pretrained(folder)
    make_processor(tokenizer).save_pretrained(folder)
    facts = {"stages": {"tags": "special"}, "verifier": {"ask": ASK, "yes": YES, "no": NO}}
    (folder / "swires.json").write_text(json.dumps(facts, indent=2) + "\n")
