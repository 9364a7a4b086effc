"""A model at work on held-out problems, without a server: the verdicts it gives, the answers it gives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from swires.stages import Stage
from training.collate import Collator, Turn
from training.config import ConfigError, Evaluate
from training.samples import Generating, Questions, Sample
from training.verifier.config import Head
from training.verifier.label import Labelled
from training.verifier.measure import Verdict
from training.verifier.problem import Problem, open_picture
from training.verifier.rows import RowCollator, Verdicts, verdict_rows


@dataclass(frozen=True)
class Judge:
    """A checkpoint with its whole weights, such as `python -m training export` writes."""

    model: PreTrainedModel
    collate: Collator

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """On the GPU where there is one. Raises ConfigError."""
        try:
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
            processor = AutoProcessor.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder}: {' '.join(str(error).split())[:300]}") from error
        return cls(model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), Collator(processor))

    def verdicts(self, labelled: Sequence[Labelled], head: Head, batch: int) -> Mapping[Stage, list[Verdict]]:
        """P(yes) / (P(yes) + P(no)) for the token after each judged stage, where the head is read."""
        judged = [(one.problem.key, each) for one in labelled for each in one.judged]
        rows = verdict_rows(labelled, self.collate, head)
        found: dict[Stage, list[Verdict]] = {stage: [] for stage in Stage}
        numbers = sorted(range(len(rows)), key=rows["length"].__getitem__)
        with tqdm(total=len(numbers), desc="judging", unit="stage", delay=2) as bar:
            for start in range(0, len(numbers), batch):
                some = numbers[start : start + batch]
                for number, probability in zip(some, self._probabilities(rows.select(some).to_list()), strict=True):
                    problem, each = judged[number]
                    found[each.stage].append(Verdict(problem, probability, each.right))
                bar.update(len(some))
        return found

    def answers(self, problems: Sequence[Problem], batch: int, max_new_tokens: int) -> list[Sample]:
        """Greedy ones."""
        with TemporaryDirectory() as folder:
            rows = list(_with_pictures(problems, Path(folder)))
            config = Evaluate(samples=len(rows), max_new_tokens=max_new_tokens, batch=batch)
            return Questions(rows, self.collate, Path(folder), config)(cast(Generating, self.model), step=0)

    @torch.inference_mode()
    def _probabilities(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        verdicts, batch = Verdicts(self.collate), RowCollator(self.collate)(rows)
        inputs = {
            name: value.to(self.model.device) for name, value in batch.items() if name not in ("labels", "judged")
        }
        logits = self.model(**inputs, use_cache=False).logits.float()
        asked = batch["attention_mask"].sum(dim=1).to(logits.device) - 2  # the last token is the verdict itself
        read = logits[torch.arange(len(rows), device=logits.device), asked]
        return torch.sigmoid(read[:, verdicts.yes] - read[:, verdicts.no]).tolist()


def _with_pictures(problems: Sequence[Problem], folder: Path) -> Iterator[dict[str, Any]]:
    for number, problem in enumerate(problems):
        name = f"{number}.png"
        open_picture(problem.image).save(folder / name)
        answer = f"{Stage.CONCLUSION.opening}{problem.answer}{Stage.CONCLUSION.closing}"
        yield {"id": problem.key, "picture": name, "turns": [Turn(question=problem.question, answer=answer)]}
