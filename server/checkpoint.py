"""`swires.json`, the file beside a checkpoint that says how its stages are marked and how its scores are to be read."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from swires.errors import SwiresError
from swires.stages import Stage

FILE_NAME = "swires.json"


class CheckpointError(SwiresError):
    """The checkpoint's swires.json is wrong, or says what does not hold for the checkpoint."""


def _stage(name: object) -> object:
    if isinstance(name, str) and name not in Stage.__members__:
        raise ValueError(f"is none of the stages {', '.join(Stage.__members__)}")
    return Stage[name] if isinstance(name, str) else name


StageName = Annotated[
    Stage,
    BeforeValidator(_stage),
    PlainSerializer(lambda stage: stage.name),
    WithJsonSchema({"type": "string", "enum": [stage.name for stage in Stage]}),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageTags(_Part):
    """Whether each stage tag is a `special` token of its own or plain `text` of several tokens."""

    tags: Literal["special", "text"]


class VerifierTokens(_Part):
    """What is put after a stage to `ask` for a verdict, and the next tokens that say `yes` and `no`."""

    ask: str = Field(min_length=1)
    yes: str = Field(min_length=1)
    no: str = Field(min_length=1)


class Deviation(_Part):
    """Mean and standard deviation of a scorer's raw scores of one stage."""

    mean: float
    std: float = Field(gt=0)


Calibration = dict[StageName, Deviation]


class Checkpoint(_Part):
    """A checkpoint without the file is one of which nothing is known."""

    stages: StageTags | None = None
    verifier: VerifierTokens | None = None
    calibration: dict[str, Calibration] = {}
    lengths: dict[StageName, Annotated[float, Field(gt=0)]] = {}
    """Mean number of tokens of each stage."""

    @property
    def staged(self) -> bool:
        """Whether the model was trained to answer in the four stages."""
        return self.stages is not None


def load(model: str) -> Checkpoint:
    """Read the file of the checkpoint `model`, a directory or the id of one in the local Hugging Face cache.

    Raises CheckpointError in one line.
    """
    path = Path(model, FILE_NAME) if Path(model).is_dir() else _cached(model)
    try:
        return Checkpoint.model_validate_json(path.read_bytes()) if path.exists() else Checkpoint()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(key) for key in first["loc"])
        raise CheckpointError(f"{path}: {f'{where}: ' if where else ''}{first['msg']}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _cached(model: str) -> Path:
    from huggingface_hub import try_to_load_from_cache  # which a directory need not wait for
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, FILE_NAME)
    except HFValidationError as error:
        raise CheckpointError(f"{model} is neither a directory nor a Hugging Face id") from error
    return Path(found) if isinstance(found, str) else Path(model, FILE_NAME)


def save(model: str, checkpoint: Checkpoint) -> None:
    """Write the file of the checkpoint in the directory `model`, all at once. Raises CheckpointError."""
    path = Path(model, FILE_NAME)
    new = path.with_suffix(".new")
    try:
        new.write_text(checkpoint.model_dump_json(indent=2, exclude_none=True) + "\n")
        new.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
