"""Teaches a vision tower to see before it is taught to tell: what stands where, from each image token by itself.

Learned through the language model alone, sight comes late and slowly at this size.
"""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Idefics3ForConditionalGeneration

from swires.stages import Stage
from training.demo.collate import pixels
from training.tasks import easy_vqa, scenes
from training.tasks.example import Example

FEATURE_STD = 0.2
"""About what a layer of the language model adds to its input at first. Far larger features would drown that."""

WORDS = tuple(dict.fromkeys((*scenes.DIAMETERS, *scenes.COLORS, *scenes.SHAPES, *easy_vqa.COLORS, *easy_vqa.SHAPES)))


def learn_to_see(
    model: Idefics3ForConditionalGeneration,
    draw: Callable[[random.Random, int], Sequence[Example]],
    *,
    seed: int,
    steps: int,
    batch: int,
    peak_lr: float,
) -> None:
    """Train the vision tower and the connector to name, with a linear probe that is then dropped, the words of what
    each image token shows. Their output is then scaled to FEATURE_STD."""
    probe = nn.Linear(model.lm_head.in_features, len(WORDS))
    sight = nn.ModuleList([model.model.vision_model, model.model.connector, probe]).train()
    optimizer = torch.optim.AdamW(sight.parameters(), peak_lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=steps, pct_start=0.1)
    rng = random.Random(f"sight {seed}")
    for _ in (bar := tqdm(range(steps), desc="learning to see", unit="step", mininterval=5)):
        examples = draw(rng, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            images = torch.stack([pixels(example.image) for example in examples])
            seen = model.model.connector(model.model.vision_model(pixel_values=images).last_hidden_state)
            loss = _loss(probe(seen).float(), examples)
        loss.backward()
        nn.utils.clip_grad_norm_(sight.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{float(loss.detach()):.4f}", refresh=False)
    with torch.no_grad():
        model.model.connector.modality_projection.proj.weight.mul_(FEATURE_STD / seen.float().std())


def _loss(logits: Tensor, examples: Sequence[Example]) -> Tensor:
    """Logits (batch, image tokens, words) against the words of each cell or, where cells are not told, against the
    words of the caption anywhere."""
    losses = []
    for row, example in zip(logits, examples, strict=True):
        if example.cells:
            losses.append(_words_loss(row, torch.stack([_words(cell) for cell in example.cells])))
        else:
            losses.append(_words_loss(row.amax(0), _words(example.stages[Stage.CAPTION].rstrip("."))))
    return torch.stack(losses).mean()


def _words_loss(logits: Tensor, words: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, words)


def _words(text: str) -> Tensor:
    named = text.split()
    return torch.tensor([float(word in named) for word in WORDS])
