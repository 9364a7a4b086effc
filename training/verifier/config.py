"""What a training of a verifier is told."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from training.config import Model, Section


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


Head = Literal["token", "score"]
Files = Annotated[tuple[Path, ...], BeforeValidator(_listed), Field(min_length=1)]


class Answers(Section):
    """Ordinary records of whole answers, in LLaVA-CoT-100k's shape, so that the model does not forget how to answer:
    drawn at random, `share` of all that is learned."""

    records: Files
    images: Path
    max_tokens: int = Field(gt=0)
    share: float = Field(0.5, gt=0, lt=1)


class VerifierRun(Section):
    """`labels` are written by `verifier label`. The head `token` learns to say the verdict as the next token after its
    question, among all that it may say. `score` learns only which of the two verdicts is the more probable after a
    turn's end, as a reward model, and forgets how to answer. `weight` is that of the verdicts' loss beside the
    answers'. `train` is handed to trl.SFTConfig as it is."""

    model: Model
    labels: Files
    answers: Answers | None = None
    head: Head = "token"
    weight: float = Field(1.0, gt=0)
    train: dict[str, Any]

    @model_validator(mode="after")
    def _a_score_answers_nothing(self) -> "VerifierRun":
        if self.head == "score" and self.answers is not None:
            raise ValueError("answers: the head score learns none; set it to null")
        return self
