"""Teaches a vision language model the four stages with TRL's trainer, and looks at what it answers meanwhile."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from datasets import Dataset
from peft import PeftModel
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from training.arguments import arguments, check_names
from training.collate import Collator
from training.config import NOTE, ConfigError, Run
from training.model import Loaded, adapters, check_sharding, load_model
from training.order import EpochSampler
from training.records import RecordCollator, Records, load_records
from training.samples import Generating, Questions, Sample, append, metrics

SHOWN = 8
"""Samples that TensorBoard shows of an evaluation; all are in samples.jsonl."""


class StagedTrainer(SFTTrainer):
    """SFTTrainer, whose evaluations also measure what the model answers.

    A checkpoint's weights are read as any other model's are. Trainer would take their names for those of its own
    parameters, which many architectures save by other names, and would go on with weights from before the first step
    (https://github.com/huggingface/transformers/issues/43701).
    """

    def __init__(self, *, questions: Questions | None, gamma: float | None, **trained: Any) -> None:
        super().__init__(**trained)
        self.model_accepts_loss_kwargs = True  # TRL's loss knows the tokens of all GPUs, whatever the model's own does
        self._questions, self._gamma = questions, gamma
        if isinstance(self.model, PeftModel):
            _give_bias(self.model)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """TRL multiplies with the head's weight and never calls the head, upon which FSDP2 would neither gather the
        weight nor sum its gradient over the GPUs."""
        head = cast(PreTrainedModel, self.model).get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()
        return super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self._questions is not None and output.metrics is not None:
            samples = self._questions(cast(Generating, self.model), self.state.global_step)
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics(samples).items()})
            if self.is_world_process_zero():
                self._show(samples)
        return output

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, RandomSampler | LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSampler(sampler, seed, epoch=lambda: int(self.state.epoch or 0))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        if self._gamma is None:
            return super().create_scheduler(num_training_steps, optimizer)
        optimizer = optimizer or self.optimizer
        assert optimizer is not None
        gamma, each = self._gamma, self._steps_per_epoch()
        self.lr_scheduler = LambdaLR(optimizer, lambda step: gamma ** (step // each))
        return self.lr_scheduler

    def _steps_per_epoch(self) -> int:
        assert isinstance(self.train_dataset, Dataset)
        batches: int = math.ceil(len(self.train_dataset) / (self.args.train_batch_size * self.args.world_size))
        accumulated: int = self.args.gradient_accumulation_steps
        return math.ceil(batches / accumulated)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._holds_all_weights:
            self._restore(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._holds_all_weights:
            assert self.state.best_model_checkpoint is not None
            self._restore(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    @property
    def _holds_all_weights(self) -> bool:
        """Not adapters alone, and not a part of them in each process."""
        apart = isinstance(self.model, PeftModel) or self.is_fsdp_enabled or self.is_deepspeed_enabled
        return not apart

    def _restore(self, checkpoint: str) -> None:
        assert isinstance(self.model, PreTrainedModel)
        saved = type(self.model).from_pretrained(checkpoint, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())

    def _show(self, samples: Sequence[Sample]) -> None:
        append(samples, _folder(self.args) / "samples.jsonl")
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_text("samples", _page(samples[:SHOWN]), self.state.global_step)


def finetune(run: Run) -> None:
    """Train as told, from the last whole checkpoint in `output_dir` where there is one. Raises ConfigError."""
    check_names(run.train)
    loaded = load_model(run.model)  # before the arguments, which would have DeepSpeed cut it while it is loaded
    check_sharding(loaded, run.model)
    options = arguments(run.train)
    if options.eval_strategy != IntervalStrategy.NO and not (run.data.evaluation or run.data.evaluation_share):
        raise ConfigError("train.eval_strategy: asks for evaluations; set data.evaluation or data.evaluation_share too")
    folder = _folder(options)
    collate = Collator(loaded.processor)
    records = load_records(run.data, collate, seed=options.seed, cache=folder / "data")
    trainer = _trainer(run, options, loaded, records, collate)
    last = last_checkpoint(folder)
    if trainer.is_world_process_zero():
        _note(run, folder)
        print(records, f"Goes on from {last}" if last else "Begins", sep="\n", file=sys.stderr)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_model()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest that was saved to its end; the trainer's state is the last of its files."""
    steps = {int(path.name.partition("-")[2]): path for path in folder.glob("checkpoint-*") if _is_whole(path)}
    return steps[max(steps)] if steps else None


def _trainer(run: Run, options: SFTConfig, loaded: Loaded, records: Records, collate: Collator) -> StagedTrainer:
    questions = None
    if records.evaluation is not None and run.evaluate.samples:
        rows = records.evaluation.select(range(min(run.evaluate.samples, len(records.evaluation))))
        questions = Questions(rows.to_list(), collate, run.data.images, run.evaluate)
    return StagedTrainer(
        questions=questions,
        gamma=run.gamma,
        model=loaded.model,
        args=options,
        data_collator=RecordCollator(collate, run.data.images),
        train_dataset=records.train,
        eval_dataset=records.evaluation,
        processing_class=loaded.processor,
        peft_config=adapters(loaded, run.model.lora, run.model.frozen) if run.model.lora else None,
    )


def _give_bias(model: PeftModel) -> None:
    """TRL reads the output embeddings' weight and bias, and peft's wrapper around rows that are learned has no bias."""
    base = model.get_base_model()
    assert isinstance(base, PreTrainedModel)
    said = base.get_output_embeddings()
    if not hasattr(said, "bias"):
        said.bias = None


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def _folder(options: TrainingArguments) -> Path:
    assert options.output_dir is not None
    return Path(options.output_dir)


def _note(run: Run, folder: Path) -> None:
    """What the run was told, beside what it made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))


def _page(samples: Sequence[Sample]) -> str:
    """Markdown, tags as they are."""
    return "\n\n".join(
        f"**{sample.id}** {sample.question}\n\nexpected: {sample.expected}; {'right' if sample.right else 'wrong'}, "
        f"{'valid' if sample.valid else 'invalid'}\n\n~~~\n{sample.text}\n~~~"
        for sample in samples
    )
