"""What must lie in a checkpoint's folder, looked for before an engine is started: seconds instead of minutes."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.checkpoint import FILE_NAME, Checkpoint, CheckpointError, load
from swires.stages import TAGS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REMEDY = "`python -m training export` writes a whole folder"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Weights that run code of their own as they are read."""
OF_TOKENS = ("embed_tokens.weight", "lm_head.weight")
"""What turns tokens into vectors, and vectors into tokens."""
OF_SCORES = "score.weight"


def check_folder(folder: Path) -> None:
    """Raises CheckpointError in one line for the first thing that an engine would stumble over in `folder`."""
    _check_config(folder)
    for file in _weights(folder):
        _check_shapes(folder, file)
    _check_processor(folder)
    _check_chat_template(folder)
    _check_tokens(folder, load(str(folder)))


def check_reward_model(folder: Path) -> None:
    """The same for a model that scores."""
    _check_config(folder)
    for file in _weights(folder):
        for name, shape in _shapes(file):
            if name.endswith(OF_SCORES) and shape[0] != 1:
                raise CheckpointError(f"{file}: {name} has {shape[0]} labels: a model that scores has one")
    _check_processor(folder)


def _check_config(folder: Path) -> None:
    if (folder / "config.json").exists():
        if "model_type" not in _json(folder / "config.json"):
            raise CheckpointError(f"{folder / 'config.json'} names no model_type: {REMEDY}")
    elif (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder} holds adapters of a model: `python -m training export` merges them into it")
    else:
        raise CheckpointError(f"{folder} has no config.json: {REMEDY}")


def _weights(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    files = _indexed(index) if index.exists() else sorted(folder.glob("*.safetensors"))
    if not files and any(any(folder.glob(pattern)) for pattern in PICKLES):
        raise CheckpointError(f"{folder} has its weights in pickles, which may run code: save them as safetensors")
    if not files:
        raise CheckpointError(f"{folder} has no model.safetensors: {REMEDY}")
    return files


def _indexed(index: Path) -> list[Path]:
    shards = _json(index).get("weight_map", {})
    return [index.parent / name for name in sorted(set(shards.values()))]


def _shapes(file: Path) -> list[tuple[str, Sequence[int]]]:
    """Of its tensors, by their names."""
    from safetensors import SafetensorError, safe_open  # which comes with the engine, as tokenizers does

    try:
        with safe_open(file, framework="numpy") as tensors:
            return [(name, tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing, one of the files of the weights: copy it here too") from error
    except SafetensorError as error:
        raise CheckpointError(f"{file} is broken or cut short, copy it again: {error}") from error


def _check_shapes(folder: Path, file: Path) -> None:
    rows = _num_embeddings(folder)
    for name, shape in _shapes(file):
        if name.endswith(OF_TOKENS) and shape[0] < rows < math.inf:
            raise CheckpointError(
                f"{file}: {name} has {shape[0]} rows, by config.json the model knows {rows} tokens: copy both from one "
                "model"
            )


def _check_processor(folder: Path) -> None:
    sees = "vision_config" in _json(folder / "config.json")
    processor = _json_if_there(folder / "processor_config.json")
    if sees and "image_processor" not in processor and not (folder / "preprocessor_config.json").exists():
        raise CheckpointError(f"{folder} does not tell how images are read, in processor_config.json: {REMEDY}")


def _check_chat_template(folder: Path) -> None:
    if (folder / "chat_template.jinja").exists():
        return
    holders = ("tokenizer_config.json", "processor_config.json", "chat_template.json")
    if not any(_json_if_there(folder / name).get("chat_template") for name in holders):
        raise CheckpointError(f"{folder} has no chat_template.jinja: {REMEDY}")


def _check_tokens(folder: Path, known: Checkpoint) -> None:
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise CheckpointError(f"{folder} has no tokenizer.json: {REMEDY}")
    if (folder / "tokenizer.json").exists():
        tokenizer = _tokenizer(folder / "tokenizer.json")
        for text in _single_tokens(known):
            _check_single(folder, tokenizer, text)


def _tokenizer(file: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers has no narrower one
        raise CheckpointError(f"{file} cannot be read, copy it again: {error}") from error


def _single_tokens(known: Checkpoint) -> Iterator[str]:
    if known.stages is not None and known.stages.tags == "special":
        yield from TAGS
    if known.verifier is not None:
        yield from (known.verifier.yes, known.verifier.no)


def _check_single(folder: Path, tokenizer: "Tokenizer", text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if len(ids) != 1:
        raise CheckpointError(
            f"{folder}: {FILE_NAME} needs {text} to be one token, the tokenizer makes it {len(ids)}: "
            "export it with the tokenizer that it was trained with"
        )
    if ids[0] >= (rows := _num_embeddings(folder)):
        raise CheckpointError(f"{folder}: {text} is token {ids[0]}, the model has but {rows}: train it with its tags")


def _num_embeddings(folder: Path) -> float:
    config = _json(folder / "config.json")
    rows: float = config.get("text_config", config).get("vocab_size", math.inf)
    return rows


def _json_if_there(file: Path) -> dict[str, Any]:
    return _json(file) if file.exists() else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is no JSON object")
    return value
