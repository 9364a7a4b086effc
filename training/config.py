"""What a training run is told: a YAML file, and `key=value` on the command line for what differs from it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

CONFIGS = Path(__file__).parent / "configs"
NOTE = "run.yaml"
"""In the folder of a run: what it was told."""

Tower = Literal["vision", "projector", "language"]


class ConfigError(Exception):
    """A run cannot begin as it is told to; its text is one line that names the field."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Lora(Section):
    """Adapters on the linear layers of the towers that are not frozen; the names are those of peft.LoraConfig."""

    r: int = Field(gt=0)
    lora_alpha: int = Field(gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    use_rslora: bool = False


class Model(Section):
    """`tags` makes each stage tag one special token, or leaves it plain text of several. `frozen` towers do not learn.
    `image_processor` changes fields of the checkpoint's own one, such as how large its pictures may be, and is saved
    with the model. Without `dtype` the weights are kept as they are stored."""

    name: str
    revision: str | None = None
    tags: Literal["special", "text"]
    lora: Lora | None = None
    frozen: frozenset[Tower] = frozenset()
    attention: str = "sdpa"
    dtype: Literal["float32", "bfloat16"] | None = None
    image_processor: dict[str, Any] = {}


class Data(Section):
    """Records in LLaVA-CoT-100k's shape. Held out for evaluation are the records of the files `evaluation`, or a share
    of those of `train`, or none. A record of more than `max_tokens` tokens, its picture's among them, is left out."""

    train: Annotated[tuple[Path, ...], BeforeValidator(lambda value: _listed(value)), Field(min_length=1)]
    images: Path
    evaluation: Annotated[tuple[Path, ...], BeforeValidator(lambda value: _listed(value))] = ()
    evaluation_share: float = Field(0.0, ge=0, lt=1)
    max_tokens: int = Field(gt=0)

    @model_validator(mode="after")
    def _one_way_to_evaluate(self) -> "Data":
        if self.evaluation and self.evaluation_share:
            raise ValueError("evaluation and evaluation_share exclude each other: set one of them to null or 0")
        return self


class Evaluate(Section):
    """At each evaluation so many held-out problems are answered greedily and looked at."""

    samples: int = Field(64, ge=0)
    max_new_tokens: int = Field(2048, gt=0)
    batch: int = Field(8, gt=0)


class Run(Section):
    """A fine-tuning. `train` is handed to trl.SFTConfig as it is. `gamma` multiplies the learning rate after each
    epoch, which no `lr_scheduler_type` of `train` does."""

    model: Model
    data: Data
    train: dict[str, Any]
    gamma: float | None = Field(None, gt=0, le=1)
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _one_schedule(self) -> "Run":
        if self.gamma is not None and "lr_scheduler_type" in self.train:
            raise ValueError("gamma and train.lr_scheduler_type exclude each other: leave one of them out")
        return self


Config = TypeVar("Config", bound=Section)


def load(kind: type[Config], file: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a config; an override is `section.key=value`, its value in YAML. Raises ConfigError."""
    values = _read(file)
    for override in overrides:
        _set(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_error(error)}") from error


def first_error(error: ValidationError, section: str = "") -> str:
    """The first of its complaints in one line, `field: message`; a field that does not exist comes before one that is
    not set."""
    errors = error.errors(include_url=False, include_context=False)
    first = min(errors, key=lambda one: one["type"] == "missing")
    where = ".".join(str(part) for part in (section, *first["loc"]) if part != "")
    message = {
        "extra_forbidden": "there is no such field",
        "unexpected_keyword_argument": "there is no such field",
        "missing": f"is not set; give it in the file or as {where}=VALUE",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{where}: {message}" if where else message


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as it is everywhere else; YAML 1.1 wants a dot in it."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        values = _parse(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: is no mapping of sections")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    *parents, key = path.split(".")
    if not equals or not all(part.strip() for part in (*parents, key)):
        raise ConfigError(f"{override!r} is not of the form section.key=value")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = values = inner if isinstance(inner, dict) else {}
    values[key] = _parse(text, path)


def _listed(value: object) -> object:
    """One file for a list of one, nothing for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | Path) else value
