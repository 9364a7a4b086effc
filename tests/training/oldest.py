"""Every family trained and exported, as a command for another environment: `python -m tests.training.oldest FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.training import tiny
from tests.training.by_heart import PICTURES, QUESTION, exported, transcript

SERVED = "qwen2_5_vl"
"""Which learns its task; the others are not asked anything."""
STEPS = 80
CHAT: Any = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]


def logits(model: Path) -> torch.Tensor:
    """Of each token of a conversation about a picture."""
    processor = AutoProcessor.from_pretrained(model)
    text = processor.apply_chat_template(CHAT, add_generation_prompt=True) + transcript("red")
    batch = processor(text=[text], images=[PICTURES["red"]], add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        read: torch.Tensor = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)(**batch).logits
    return read


if __name__ == "__main__":
    for family in tiny.FAMILIES:
        folder = Path(sys.argv[1]) / family
        model = exported(family, folder, steps=STEPS if family == SERVED else 2)
        save_file({"logits": logits(model)}, folder / "logits.safetensors")
