"""The scalar head: in torch, and in vLLM, whose probabilities are to be the same."""

import gc
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.training import tiny
from tests.training.by_heart import command
from tests.training.verifier.judged import labelled, staged
from training.collate import Collator
from training.verifier.judge import Judge
from training.verifier.problem import open_picture
from training.verifier.rows import RowCollator, verdict_rows

HEADS = {
    "idefics3": ("Idefics3ForSequenceClassification", "score.weight"),
    "qwen2_5_vl": ("Qwen2_5_VLForSequenceClassification", "language_model.score.weight"),
}
"""Of a family whose whole model vLLM converts, and of one of which it converts the language model."""


@pytest.fixture(scope="module", params=HEADS)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def verifier(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return staged(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def written(verifier: Path) -> Path:
    out = verifier / "reward"
    command("verifier", "score", "--model", str(verifier), "--out", str(out))
    return out


def probabilities(verifier: Path) -> list[float]:
    (found,) = (each for each in Judge.load(verifier).verdicts(labelled(), "score", batch=4).values() if each)
    return [one.probability for one in found]


def test_the_head_scores_the_hidden_state_as_the_verdicts_do(family: str, verifier: Path, written: Path) -> None:
    architecture, name = HEADS[family]
    collate = Collator(AutoProcessor.from_pretrained(verifier))
    batch = RowCollator(collate)(rows := verdict_rows(labelled(), collate, "score").to_list())
    asked = batch["attention_mask"].sum(dim=1) - 2
    del batch["labels"], batch["judged"]
    model = AutoModelForImageTextToText.from_pretrained(verifier)
    head = load_file(written / "model.safetensors")[name]
    with torch.inference_mode():
        hidden = model(**batch, output_hidden_states=True).hidden_states[-1][torch.arange(len(rows)), asked]
    assert torch.sigmoid(hidden @ head[0]).tolist() == pytest.approx(probabilities(verifier), abs=1e-5)
    assert json.loads((written / "config.json").read_text())["architectures"] == [architecture]


def test_vllm_gives_the_same_probabilities(verifier: Path, written: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        from vllm import LLM

        engine: Any = LLM(
            str(written),
            dtype="float32",
            max_model_len=512,
            limit_mm_per_prompt={"image": 1},
            kv_cache_memory_bytes=1 << 26,
            enforce_eager=True,
        )
        try:
            outputs = engine.classify(prompts(verifier), use_tqdm=False)
        finally:
            engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()
    assert [output.outputs.probs for output in outputs] == [
        [pytest.approx(expected, abs=1e-4)] for expected in probabilities(verifier)
    ]


def prompts(verifier: Path) -> list[dict[str, object]]:
    """Whole conversations as text, with the picture beside them."""
    processor = AutoProcessor.from_pretrained(verifier)

    def conversation(question: str, answer: str) -> object:
        asked = [{"type": "image"}, {"type": "text", "text": question}]
        told = [{"type": "text", "text": answer}]
        return processor.apply_chat_template(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        )

    return [
        {
            "prompt": conversation(one.problem.question, "".join(judged.texts)),
            "multi_modal_data": {"image": open_picture(one.problem.image)},
        }
        for one in labelled()
        for judged in one.judged
    ]


def test_a_folder_that_is_there_already_is_left_alone(verifier: Path, written: Path) -> None:
    with pytest.raises(SystemExit, match="exists already"):
        command("verifier", "score", "--model", str(verifier), "--out", str(written))


def test_a_model_that_vllm_cannot_score_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not known to score with a llava; it does with idefics3"):
        command("verifier", "score", "--model", str(tiny.write("llava", tmp_path)), "--out", str(tmp_path / "out"))
