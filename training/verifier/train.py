"""Teaches a model to judge its own stages: the next token after each says whether they lead to the right answer."""

from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import set_seed
from trl.trainer.sft_config import SFTConfig

from training.arguments import arguments
from training.checkpoint import describe
from training.collate import IGNORED, Collator
from training.config import NOTE, ConfigError
from training.finetune import StagedTrainer, last_checkpoint
from training.model import Loaded, adapters, load_model
from training.verifier.config import Head, VerifierRun
from training.verifier.jsonl import read
from training.verifier.label import Labelled
from training.verifier.rows import RowCollator, Verdicts, verdict_rows, with_answers


class VerdictTrainer(StagedTrainer):
    """Learns the verdicts of some rows of a batch and the answers of the others, whose many tokens are not to outweigh
    the single one of a verdict."""

    def __init__(self, *, verdicts: Verdicts, run: VerifierRun, **trained: Any) -> None:
        super().__init__(questions=None, gamma=None, **trained)
        self.model_accepts_loss_kwargs = False  # the loss is a mean, whatever is in the other batches of a step
        self._verdicts, self._run = verdicts, run

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        labels, judged = inputs.pop("labels"), inputs.pop("judged")
        outputs = model(**inputs, use_cache=False)
        head, weight = self._run.head, self._run.weight
        loss = verdict_loss(outputs.logits, labels, judged, self._verdicts, head=head, weight=weight)
        return (loss, outputs) if return_outputs else loss


def verdict_loss(
    logits: Tensor, labels: Tensor, judged: Tensor, verdicts: Verdicts, *, head: Head, weight: float
) -> Tensor:
    """The mean over tokens of the answers, and `weight` times that over the verdicts, whose rows are `judged`.

    `logits` are (batch, length, vocabulary), `labels` (batch, length); a token is said by the logits before it.
    """
    learned = labels[:, 1:] != IGNORED
    logits, labels = logits[:, :-1][learned].float(), labels[:, 1:][learned]
    asked = judged[:, None].expand_as(learned)[learned]
    answered = _mean(cross_entropy(logits[~asked], labels[~asked], reduction="none"))
    if head == "token":
        losses = cross_entropy(logits[asked], labels[asked], reduction="none")
    else:
        odds = logits[asked, verdicts.yes] - logits[asked, verdicts.no]
        right = (labels[asked] == verdicts.yes).float()
        losses = binary_cross_entropy_with_logits(odds, right, reduction="none")
    return answered + weight * _mean(losses)


def train(run: VerifierRun) -> Path:
    """Train as told, from the last whole checkpoint in `output_dir` where there is one, and return that folder.

    Raises ConfigError, VerifierError.
    """
    set_seed(run.train.get("seed", SFTConfig.seed))
    loaded = load_model(run.model)
    if loaded.new_tags:
        raise ConfigError(f"model.name: {run.model.name} has not learned the stages: teach it with `sft` first")
    options = arguments(run.train)
    assert options.output_dir is not None
    folder = Path(options.output_dir)
    trainer = _trainer(run, options, loaded, folder)
    last = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_model()
    if trainer.is_world_process_zero():
        (folder / NOTE).write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))
        describe(folder, tags=run.model.tags, verifier=True)
    return folder


def _trainer(run: VerifierRun, options: SFTConfig, loaded: Loaded, folder: Path) -> VerdictTrainer:
    collate = Collator(loaded.processor)
    rows = verdict_rows((one for file in run.labels for one in read(file, Labelled)), collate, run.head)
    if run.answers is not None:
        rows = with_answers(rows, run.answers, collate, seed=options.seed, cache=folder / "data")
    return VerdictTrainer(
        verdicts=Verdicts(collate),
        run=run,
        model=loaded.model,
        args=options,
        data_collator=RowCollator(collate),
        train_dataset=rows,
        processing_class=loaded.processor,
        peft_config=adapters(loaded, run.model.lora, run.model.frozen) if run.model.lora else None,
    )


def _mean(losses: Tensor) -> Tensor:
    """0 of none."""
    return losses.sum() / max(1, losses.numel())
