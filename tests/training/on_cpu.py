"""`python -m training` as on GPUs, for tests: accelerate shards a model over accelerators only, so here it takes CPU
processes for some. Where DIES_AT_STEP says so, each of them is killed at the end of that step, before it is saved."""

import os
import signal
from typing import Any
from unittest.mock import patch

import transformers.training_args
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from training.__main__ import main

on_step_end = CallbackHandler.on_step_end


def dies(
    self: CallbackHandler, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
) -> Any:
    if state.global_step == int(os.environ.get("DIES_AT_STEP", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
    return on_step_end(self, args, state, control, **kwargs)


def backend(*_: object) -> tuple[str | None, DistributedType]:
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return ("gloo", DistributedType.MULTI_GPU) if several else (None, DistributedType.NO)


if __name__ == "__main__":
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    with (
        patch.object(CallbackHandler, "on_step_end", dies),
        patch.object(PartialState, "_prepare_backend", backend),
        patch.object(transformers.training_args, "is_torch_bf16_gpu_available", lambda: True),
    ):
        main()
