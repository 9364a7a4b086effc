"""The request as OpenAI's chat API spells it: every field has an effect, asks for nothing, or is refused by name."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, to_json

from server.checkpoint import StageName
from server.images import ImageSource
from server.settings import PolicyName, PresetName

MAX_MESSAGES = 1024
MAX_PARTS = 256
MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20
INT64 = 2**63
JSON_KINDS = {NoneType: "null", bool: "boolean", int: "number", str: "string", list: "array", dict: "object"}
NOTHING_FETCHED: Mapping[str, str] = {}
ANY_OBJECT = '{"type": "object"}'


def only(*values: object) -> BeforeValidator:
    """A field that is not served: null, or one of `values`, which ask for nothing."""

    def check(value: object) -> object:
        if value is not None and not any(_same(value, each) for each in values):
            allowed = f"; leave it out or send {values[0]!r}" if values else ""
            raise PydanticCustomError("unsupported", f"not supported{allowed}")
        return value

    kinds = {JSON_KINDS[type(value)] for value in (None, *values)}
    schema = WithJsonSchema({"type": sorted(kinds), "enum": [None, *values]})
    return BeforeValidator(check, json_schema_input_type=Annotated[Any, schema])


def _same(value: object, other: object) -> bool:
    """As JSON has it: true is not 1, but 0.0 is 0."""
    return value == other and isinstance(value, bool) is isinstance(other, bool)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("invalid_text", "must not hold the character U+0000")
    return text


def _as_parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _or_none_given(stages: object) -> object:
    return {} if stages is None else stages


Asked = TypeVar("Asked")
Effort: TypeAlias = Literal["none", "low", "medium", "high"]
Refused: TypeAlias = Annotated[Any, only()]
Text: TypeAlias = Annotated[
    str, AfterValidator(_without_nul), WithJsonSchema({"type": "string", "pattern": r"^[^\u0000]*$"})
]
Int64: TypeAlias = Annotated[int, Field(ge=-INT64, lt=INT64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TextPart(Strict):
    type: Literal["text"]
    text: Text


Detail: TypeAlias = Literal["auto", "low", "high", "original"]
"""A hint; the checkpoint's processor decides."""


class ImageURL(Strict):
    url: str
    detail: Detail | None = None


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageURL


Part: TypeAlias = Annotated[TextPart | ImagePart, Field(discriminator="type")]
PartList: TypeAlias = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]
Parts: TypeAlias = Annotated[PartList, FailFast(), BeforeValidator(_as_parts, json_schema_input_type=Text | PartList)]
TextPartList: TypeAlias = Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS)]
TextParts: TypeAlias = Annotated[
    TextPartList, FailFast(), BeforeValidator(_as_parts, json_schema_input_type=Text | TextPartList)
]


class InstructionMessage(Strict):
    role: Literal["system", "developer"]
    content: TextParts
    name: Refused = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Parts
    name: Refused = None


class AssistantMessage(Strict):
    """An earlier answer, also in the form in which it was served; its stages are not shown to the model again."""

    role: Literal["assistant"]
    content: TextParts
    reasoning: str | None = None
    reasoning_content: str | None = None
    name: Refused = None
    refusal: Refused = None
    annotations: Annotated[Any, only([])] = None
    audio: Refused = None
    function_call: Refused = None
    tool_calls: Annotated[Any, only([])] = None
    provider_specific_fields: dict[str, Any] | None = None  # LiteLLM keeps a copy of `reasoning` there


Message: TypeAlias = Annotated[InstructionMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Strict):
    """What a search has used is known when it ends: usage comes then, also to clients of vLLM that ask for it in every
    chunk."""

    include_usage: bool = False
    continuous_usage_stats: bool | None = None
    include_obfuscation: Annotated[Any, only(False)] = None


class StageOptions(Strict):
    """What is different at one stage; None leaves it as it is for the search.

    Temperature 0 is taken at its word: the likeliest text, and candidates of one parent that read the same.
    """

    candidates: Int64 | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    scorer: str | None = None
    accept_z: float | None = None


ByStage: TypeAlias = dict[StageName, StageOptions]


class SwiresOptions(Strict):
    """The `swires` object; None leaves a number to the preset, the rest to the server."""

    policy: PolicyName | None = None
    preset: PresetName | None = None
    captions: Int64 | None = None
    keep_captions: Int64 | None = None
    reasonings: Int64 | None = None
    keep_reasonings: Int64 | None = None
    max_retraces: Int64 | None = None
    accept_rank: Int64 | None = None
    accept_z: float | None = None
    widen: float | None = None
    candidates: Int64 | None = None
    keep: Int64 | None = None
    scorer: str | None = None
    max_generations: int | None = Field(None, ge=1)
    max_total_tokens: int | None = Field(None, ge=1)
    timeout_s: float | None = Field(None, gt=0)
    trace: bool = False
    events: bool = False
    raw: bool = False
    stages: Annotated[ByStage, BeforeValidator(_or_none_given, json_schema_input_type=ByStage | None)] = {}
    dry_run: bool = False


def _ends_with_user(messages: list[Message]) -> list[Message]:
    if messages[-1].role != "user":
        raise PydanticCustomError("invalid_messages", "the last message must be the user's")
    return messages


@dataclass(frozen=True, slots=True)
class Turn:
    """A message; text is a string."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | ImageSource, ...]


class Request(Strict):
    """What a request of either API asks for."""

    prompt_param: ClassVar[str]
    """The field that holds the messages."""
    schema_param: ClassVar[str]
    """The field that holds the schema of the answer."""

    model: str
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: Int64 | None = None
    swires: SwiresOptions = SwiresOptions()

    # What tells about the caller and does not change the answer.
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None

    # What is not served, with the values that ask for nothing.
    moderation: Refused = None

    @property
    @abstractmethod
    def effort(self) -> Effort | None: ...

    @property
    @abstractmethod
    def max_answer_tokens(self) -> int | None: ...

    @property
    @abstractmethod
    def json_schema(self) -> str | None:
        """That of the answer, as JSON."""

    @property
    @abstractmethod
    def num_top_logprobs(self) -> int | None:
        """None where no log-probabilities are asked for."""

    @property
    def num_answers(self) -> int:
        return 1

    @property
    def stops(self) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def turns(self) -> Iterator[Turn]:
        """The messages in their order."""

    def rendering(self) -> list[dict[str, Any]]:
        """The messages as an engine renders them: an image is a part `{"type": "image"}`."""
        return [{"role": turn.role, "content": [_rendered(part) for part in turn.parts]} for turn in self.turns()]

    def plain(self, fetched: Mapping[str, str] = NOTHING_FETCHED) -> tuple[dict[str, Any], ...]:
        """The messages as another server takes them: roles, text and the images as sent, or as `fetched` from there."""
        return tuple(
            {"role": turn.role, "content": [_sent(part, fetched) for part in turn.parts]} for turn in self.turns()
        )

    def images(self) -> Iterator[ImageSource]:
        """The images in the order of their parts."""
        return (part for turn in self.turns() for part in turn.parts if isinstance(part, ImageSource))


def _rendered(part: str | ImageSource) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def _sent(part: str | ImageSource, fetched: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(part, str):
        return _rendered(part)
    return {"type": "image_url", "image_url": {"url": fetched.get(part.url, part.url)}}


def goes_with(field: str, *, told: str | None = None) -> AfterValidator:
    """A field that means something beside another alone; `told` is what one asks for with that."""

    def check(value: Asked, info: ValidationInfo) -> Asked:
        if value is not None and not info.data.get(field):
            raise PydanticCustomError("invalid_value", f"goes with {told or field} only")
        return value

    return AfterValidator(check)


Stop: TypeAlias = Annotated[str, Field(min_length=1)]
Stops: TypeAlias = Annotated[list[Stop], Field(max_length=MAX_STOPS)]


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else [] if stop is None else stop


def not_raw(value: Asked, info: ValidationInfo) -> Asked:
    options: SwiresOptions | None = info.data.get("swires")
    if value and options is not None and options.raw:
        raise PydanticCustomError("invalid_value", "is of the CONCLUSION alone, and does not go with swires.raw")
    return value


class JsonSchema(Strict):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None  # it is kept to in any case


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat: TypeAlias = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatRequest(Request):
    prompt_param: ClassVar[str] = "messages"
    schema_param: ClassVar[str] = "response_format"

    messages: Annotated[
        list[Message], FailFast(), Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_ends_with_user)
    ]
    stream_options: Annotated[StreamOptions | None, goes_with("stream")] = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    reasoning_effort: Effort | None = None
    n: int | None = Field(None, ge=1)
    stop: Annotated[
        Stops, BeforeValidator(_as_list, json_schema_input_type=Stop | Stops | None), AfterValidator(not_raw)
    ] = []
    logprobs: Annotated[bool | None, AfterValidator(not_raw)] = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS), goes_with("logprobs")] = None
    response_format: ResponseFormat | None = None

    store: bool | None = None  # nothing is stored in any case

    # What is not served, with the values that ask for nothing.
    audio: Refused = None
    frequency_penalty: Annotated[Any, only(0)] = None
    function_call: Annotated[Any, only("none")] = None
    functions: Refused = None
    logit_bias: Annotated[Any, only({})] = None
    modalities: Annotated[Any, only(["text"])] = None
    prediction: Refused = None
    presence_penalty: Annotated[Any, only(0)] = None
    tool_choice: Annotated[Any, only("none")] = None
    tools: Refused = None
    verbosity: Annotated[Any, only("medium")] = None
    web_search_options: Refused = None

    # What vllm-router adds to each request, likewise.
    continue_final_message: Annotated[Any, only(False)] = None
    ignore_eos: Annotated[Any, only(False)] = None
    include_reasoning: Annotated[Any, only(True)] = None
    no_stop_trim: Annotated[Any, only(False)] = None
    return_hidden_states: Annotated[Any, only(False)] = None
    separate_reasoning: Annotated[Any, only(True)] = None
    skip_special_tokens: Annotated[Any, only(True)] = None
    stream_reasoning: Annotated[Any, only(True)] = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def effort(self) -> Effort | None:
        return self.reasoning_effort

    @property
    def max_answer_tokens(self) -> int | None:
        return min(filter(None, (self.max_tokens, self.max_completion_tokens)), default=None)

    @property
    def json_schema(self) -> str | None:
        match self.response_format:
            case JsonSchemaFormat(json_schema=asked):
                return to_json(asked.schema_).decode()
            case JsonObjectFormat():
                return ANY_OBJECT
        return None

    @property
    def num_top_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def num_answers(self) -> int:
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(self.stop)

    def turns(self) -> Iterator[Turn]:
        for number, message in enumerate(self.messages):
            role = "system" if message.role == "developer" else message.role
            parts = enumerate(message.content)
            yield Turn(role, tuple(_part(part, f"messages[{number}].content[{place}]") for place, part in parts))


def _part(part: Part, param: str) -> str | ImageSource:
    return part.text if isinstance(part, TextPart) else ImageSource(f"{param}.image_url.url", part.image_url.url)
