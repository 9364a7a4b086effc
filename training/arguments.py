"""The `train` section of a config as TRL's arguments."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from trl.trainer.sft_config import SFTConfig

from training.config import ConfigError, first_error

OURS = {"remove_unused_columns": False, "dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
"""Batches are made from records as they are needed, none of them cut."""

WITHOUT_EFFECT = {
    "max_length": "longer records are left out, see data.max_tokens",
    "packing": "pictures cannot be packed; train_sampling_strategy: group_by_length saves padding too",
    "padding_free": "pictures cannot go without; train_sampling_strategy: group_by_length saves padding too",
    "assistant_only_loss": "only the assistant's text is learned anyway",
    "completion_only_loss": "only the assistant's text is learned anyway",
    "model_init_kwargs": "the section `model` says how the model is loaded",
    "chat_template_path": "the checkpoint's own chat template is used",
    "remove_unused_columns": "there are none",
    "dataset_kwargs": "the section `data` says how records are read",
    "resume_from_checkpoint": "a run goes on from the last checkpoint in output_dir by itself",
}


class Arguments(SFTConfig):
    """TRL's, with names and types of values checked."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


def arguments(train: Mapping[str, Any]) -> SFTConfig:
    """Raises ConfigError."""
    check_names(train)
    try:
        return TypeAdapter(Arguments).validate_python({**train, **OURS})
    except ValidationError as error:
        raise ConfigError(first_error(error, "train")) from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"train: {' '.join(str(error).split())}") from error


def check_names(train: Mapping[str, Any]) -> None:
    """Raises ConfigError."""
    for name in train:
        _check(name)
    if not train.get("output_dir"):
        raise ConfigError("train.output_dir: is not set; give it in the file or as train.output_dir=FOLDER")


def _check(name: str) -> None:
    if name in WITHOUT_EFFECT:
        raise ConfigError(f"train.{name}: is not to be set: {WITHOUT_EFFECT[name]}")
    known = [field.name for field in fields(SFTConfig)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ConfigError(f"train.{name}: trl.SFTConfig has no such field{f'; {near[0]}?' if near else ''}")
