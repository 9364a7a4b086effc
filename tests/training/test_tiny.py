"""The tiny checkpoints stand for their families while the library's own classes load them and look at the image."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.training import tiny

CHAT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many red circles?"}]}]


@pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning")  # transformers' Mllama warns itself
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_family_is_loaded_and_sees(family: str, tmp_path: Path) -> None:
    folder = tiny.write(family, tmp_path)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    prompt = processor.apply_chat_template(CHAT, add_generation_prompt=True)

    def logits(color: str) -> torch.Tensor:
        image = Image.new("RGB", (64, 64), color)
        batch = processor(text=[prompt], images=[image], add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            read: torch.Tensor = model(**batch).logits[0, -1]
        return read

    assert logits("red").isfinite().all()
    assert not torch.allclose(logits("red"), logits("blue"), atol=1e-3)
    assert torch.equal(logits("red"), logits("red"))
