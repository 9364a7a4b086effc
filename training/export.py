"""From what a training run leaves to a folder that the server loads: whole weights and all that is read with them."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from swires.stages import TAGS
from training.checkpoint import FILE_NAME, NO, VERIFIER, YES
from training.collate import Collator
from training.config import NOTE, Model
from training.model import load_model

Dtype = Literal["bfloat16", "float32"]
Tags = Literal["special", "text"]


class ExportError(Exception):
    """Why nothing was written, in one line."""


def export(
    source: Path, out: Path, *, dtype: Dtype = "bfloat16", tags: Tags | None = None, verifier: bool = False
) -> None:
    """Write the model of `source`, a run's folder, one of its checkpoints or any checkpoint, into the new folder `out`.

    LoRA adapters are merged into their model. What the run's own files do not say, `tags` and `verifier` must. The
    folder is there whole or not at all. Raises ExportError, ConfigError.
    """
    _check_places(source, out)
    with _reading(source):
        facts = _facts(source, tags, verifier)
        processor = AutoProcessor.from_pretrained(source)
        model = _whole_model(source, dtype, facts["stages"]["tags"])
    _check_tokens(processor.tokenizer, model, facts)
    model.generation_config = _generation_config(model, processor)
    with _whole_or_not_at_all(out) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / FILE_NAME).write_text(json.dumps(facts, indent=2) + "\n")
        for file in folder.iterdir():  # safetensors lets nobody but the owner read what it writes
            shutil.copymode(folder / FILE_NAME, file)


def _check_places(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise ExportError(f"--model: there is no folder {source}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"--out: {out} exists already: remove it or name another folder")
    if not any(source.glob("*.safetensors")):
        checkpoints = sorted(source.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
        hint = f"export one of its checkpoints, such as {checkpoints[-1]}" if checkpoints else "train it first"
        raise ExportError(f"--model: {source} has no safetensors: {hint}")


def _facts(source: Path, tags: Tags | None, verifier: bool) -> dict[str, Any]:
    """What swires.json is to say: options go over what the run's files say."""
    told = _json(_beside(source, FILE_NAME))
    tags = tags or told.get("stages", {}).get("tags") or _tags_of_run(source)
    if tags is None:
        raise ExportError(f"--tags: is missing, neither {FILE_NAME} nor {NOTE} of the run says how stages are marked")
    return {**told, "stages": {"tags": tags}, **({"verifier": VERIFIER} if verifier else {})}


def _beside(source: Path, name: str) -> Path:
    """A run's own file; where only a checkpoint of the run is exported, it lies one folder up."""
    run = source.resolve().parent if source.name.startswith("checkpoint-") else source
    return source / name if (source / name).exists() else run / name


def _json(file: Path) -> dict[str, Any]:
    told = json.loads(file.read_text()) if file.exists() else {}
    assert isinstance(told, dict)
    return told


def _tags_of_run(source: Path) -> Tags | None:
    model = _noted_model(source)
    return model.tags if model else None


def _noted_model(source: Path) -> Model | None:
    """What the run was told to load."""
    note = _beside(source, NOTE)
    return Model.model_validate(yaml.safe_load(note.read_text())["model"]) if note.exists() else None


def _whole_model(source: Path, dtype: Dtype, tags: Tags) -> PreTrainedModel:
    if not (source / "adapter_config.json").exists():
        load: Any = AutoModelForImageTextToText.from_pretrained
        model, found = load(source, dtype=dtype, output_loading_info=True)
        if found["missing_keys"]:
            raise ExportError(f"--model: {source} lacks weights, such as {min(found['missing_keys'])}")
        assert isinstance(model, PreTrainedModel)
        return model
    base = _base(source, tags).model_copy(update={"lora": None, "frozen": frozenset(), "dtype": dtype})
    print(f"Merges the adapters into {base.name}", file=sys.stderr)
    merged = PeftModel.from_pretrained(load_model(base).model, source).merge_and_unload(progressbar=True)
    assert isinstance(merged, PreTrainedModel)
    return merged


def _base(source: Path, tags: Tags) -> Model:
    """What the adapters were trained on."""
    if noted := _noted_model(source):
        return noted
    config = PeftConfig.from_pretrained(str(source))
    if config.base_model_name_or_path is None:
        raise ExportError(f"--model: the adapters in {source} do not name their model")
    return Model(name=config.base_model_name_or_path, revision=config.revision, tags=tags)


def _check_tokens(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, facts: dict[str, Any]) -> None:
    """What the server demands of these too."""
    single = [*(TAGS if facts["stages"]["tags"] == "special" else ()), *((YES, NO) if "verifier" in facts else ())]
    embeddings = model.get_input_embeddings().weight
    assert isinstance(embeddings, Tensor)
    for text in single:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1:
            raise ExportError(f"{text} must be one token and is {len(ids)}: was it trained with other tags?")
        if ids[0] >= len(embeddings):
            raise ExportError(f"{text} is token {ids[0]}, the model has but {len(embeddings)}")


def _generation_config(model: PreTrainedModel, processor: ProcessorMixin) -> GenerationConfig:
    """The tokens that end an answer: as the chat template has it, and what has ended the base model's."""
    tokenizer, before = processor.tokenizer, model.generation_config.eos_token_id
    known = before if isinstance(before, list) else [before]
    ends = [Collator(processor).end_id, tokenizer.eos_token_id, *known]
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)),
        pad_token_id=tokenizer.pad_token_id,
    )


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise ExportError(f"--model: {source}: {' '.join(str(error).split())[:300]}") from error


@contextmanager
def _whole_or_not_at_all(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when all is written."""
    new = out.with_name(f".{out.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of one that was killed
    try:
        new.mkdir(parents=True)
        yield new
        new.rename(out)
    except OSError as error:
        raise ExportError(f"--out: {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
