"""The schedule as LLaVA-CoT's released script runs it (https://github.com/PKU-YuanGroup/LLaVA-CoT): transformers'
`generate`, one candidate at a time, the image encoded again each time. A child, see `deploy.bench.child`.
"""

import argparse
import asyncio
import base64
import io
import math
import time
from itertools import count
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from deploy.bench.child import answer_lines, claimed_output
from deploy.bench.lengths import length
from deploy.bench.schedule import BALANCED, ONE_ROUND, conclusion, follow, sampling
from server.checkpoint import Checkpoint, load
from swires.stages import Stage
from swires.types import Candidate, Expand, FinishReason, Trajectory

Json: TypeAlias = dict[str, Any]


class Reference:
    """Searches in turn: there is one model, which does one thing at a time."""

    def __init__(self, model: str, *, fixed: bool) -> None:
        self.checkpoint: Checkpoint = load(model)
        self.fixed = fixed
        load_model: Any = AutoModelForImageTextToText.from_pretrained
        self.model: Any = load_model(model, dtype=torch.float32).eval()
        self.processor: Any = AutoProcessor.from_pretrained(model)
        self.room = int(self.model.config.get_text_config().max_position_embeddings)
        self.turn, self.ids = asyncio.Lock(), count()

    async def answer(self, request: Json) -> Json:
        if request["row"] == "metrics":
            return {"metrics": ""}
        started = time.perf_counter()
        async with self.turn:
            search = Search(self, request)
            answer, generations = await follow(ONE_ROUND if self.fixed else BALANCED, search.grow)
        return {
            "content": conclusion(answer.text),
            "tokens": search.tokens,
            "generations": generations,
            "first_s": search.first - started,
            "seconds": time.perf_counter() - started,
        }

    def inputs(self, image: Image.Image, question: str, text: str) -> dict[str, Tensor]:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return dict(self.processor(text=[prompt + text], images=[image], add_special_tokens=False, return_tensors="pt"))

    def ends(self, stage: Stage, num_read: int) -> Json:
        if self.fixed:
            before = length(self.checkpoint.lengths, Stage(stage - 1)) if stage else 0
            num = length(self.checkpoint.lengths, stage, after=before)
            return {"max_new_tokens": num, "min_new_tokens": num}
        end = self.processor.tokenizer.convert_tokens_to_ids(stage.closing)
        return {"max_new_tokens": self.room - num_read, "eos_token_id": end}


class Search:
    """One search under way; `first` is when its first candidate was whole."""

    def __init__(self, reference: Reference, request: Json) -> None:
        self.reference, self.question = reference, request["question"]
        self.image = Image.open(io.BytesIO(base64.b64decode(request["image"].partition(",")[2]))).convert("RGB")
        self.tokens, self.first = 0, 0.0

    async def grow(self, expand: Expand) -> tuple[Trajectory, ...]:
        pairs = [parent for parent in expand.parents for _ in range(expand.samples)]
        return tuple([await asyncio.to_thread(self.grown, expand, parent) for parent in pairs])

    def grown(self, expand: Expand, parent: Trajectory) -> Trajectory:
        candidate = self.sample(expand, parent.text)
        self.first = self.first or time.perf_counter()
        if not expand.scored:
            return parent.then(candidate)
        return parent.then(candidate, self.score(expand.stage, parent.text, candidate))

    @torch.inference_mode()
    def sample(self, expand: Expand, text: str) -> Candidate:
        of, (temperature, top_p) = self.reference, sampling(expand)
        inputs = of.inputs(self.image, self.question, text)
        num_read = inputs["input_ids"].shape[1]
        how = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        new = of.model.generate(**inputs, **how, **of.ends(expand.stage, num_read))[0, num_read:]
        self.tokens += len(new)
        sampled = of.processor.tokenizer.decode(new)
        reason: FinishReason = "stop" if of.fixed or sampled.endswith(expand.stage.closing) else "length"
        return Candidate(next(of.ids), expand.stage, sampled, (), reason)

    @torch.inference_mode()
    def score(self, stage: Stage, before: str, candidate: Candidate) -> float:
        """In deviations from what is usual for the stage, as the server's verifier."""
        of, verifier = self.reference, self.reference.checkpoint.verifier
        assert verifier is not None
        if candidate.finish_reason != "stop":
            return -math.inf
        inputs = of.inputs(self.image, self.question, before + candidate.text + verifier.ask)
        logits = of.model(**inputs, logits_to_keep=1).logits[0, -1]
        yes, no = (of.processor.tokenizer.convert_tokens_to_ids(label) for label in (verifier.yes, verifier.no))
        usual = of.checkpoint.calibration["verifier"][stage]
        return float(logits[yes] - logits[no] - usual.mean) / usual.std


async def main() -> None:
    out, parser = claimed_output(), argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fixed", action="store_true")
    options = parser.parse_args()
    await answer_lines(Reference(options.model, fixed=options.fixed).answer, out)


if __name__ == "__main__":
    asyncio.run(main())
