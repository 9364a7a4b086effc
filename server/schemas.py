"""The request as OpenAI's chat API spells it: every field has an effect, asks for nothing, or is refused by name."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from server.checkpoint import StageName
from server.images import ImageSource
from server.settings import PolicyName, PresetName

MAX_MESSAGES = 1024
MAX_PARTS = 256
INT64 = 2**63


def only(*values: object) -> BeforeValidator:
    """A field that is not served: null, or one of `values`, which ask for nothing."""

    def check(value: object) -> object:
        if value is not None and not any(_same(value, each) for each in values):
            allowed = f"; leave it out or send {values[0]!r}" if values else ""
            raise PydanticCustomError("unsupported", f"not supported{allowed}")
        return value

    return BeforeValidator(check)


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


Refused: TypeAlias = Annotated[Any, only()]
Text: TypeAlias = Annotated[str, AfterValidator(_without_nul)]
Int64: TypeAlias = Annotated[int, Field(ge=-INT64, lt=INT64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class ImageURL(Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None  # a hint; the checkpoint's processor decides


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageURL


Part: TypeAlias = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Parts: TypeAlias = Annotated[
    list[Part], FailFast(), BeforeValidator(_as_parts), Field(min_length=1, max_length=MAX_PARTS)
]
TextParts: TypeAlias = Annotated[
    list[TextPart], FailFast(), BeforeValidator(_as_parts), Field(min_length=1, max_length=MAX_PARTS)
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


Message: TypeAlias = Annotated[InstructionMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Strict):
    include_usage: bool = False
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
    candidates: Int64 | None = None
    keep: Int64 | None = None
    scorer: str | None = None
    max_generations: int | None = Field(None, ge=1)
    max_total_tokens: int | None = Field(None, ge=1)
    timeout_s: float | None = Field(None, gt=0)
    trace: bool = False
    events: bool = False
    raw: bool = False
    stages: Annotated[dict[StageName, StageOptions], BeforeValidator(_or_none_given)] = {}
    dry_run: bool = False


def _ends_with_user(messages: list[Message]) -> list[Message]:
    if messages[-1].role != "user":
        raise PydanticCustomError("invalid_messages", "the last message must be the user's")
    return messages


def _with_stream(options: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
    if options is not None and not info.data.get("stream"):
        raise PydanticCustomError("invalid_value", "goes with stream only")
    return options


class ChatRequest(Strict):
    model: str
    messages: Annotated[
        list[Message], FailFast(), Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_ends_with_user)
    ]
    stream: bool | None = None
    stream_options: Annotated[StreamOptions | None, AfterValidator(_with_stream)] = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: Int64 | None = None
    reasoning_effort: Literal["none", "low", "medium", "high"] | None = None
    swires: SwiresOptions = SwiresOptions()

    # What tells about the caller and does not change the answer.
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None

    # What is not served, with the values that ask for nothing.
    audio: Refused = None
    frequency_penalty: Annotated[Any, only(0)] = None
    function_call: Annotated[Any, only("none")] = None
    functions: Refused = None
    logit_bias: Annotated[Any, only({})] = None
    logprobs: Annotated[Any, only(False)] = None
    modalities: Annotated[Any, only(["text"])] = None
    moderation: Refused = None
    n: Annotated[Any, only(1)] = None
    prediction: Refused = None
    presence_penalty: Annotated[Any, only(0)] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    stop: Annotated[Any, only([])] = None
    tool_choice: Annotated[Any, only("none")] = None
    tools: Refused = None
    top_logprobs: Refused = None
    verbosity: Annotated[Any, only("medium")] = None
    web_search_options: Refused = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def rendering(self) -> list[dict[str, Any]]:
        """The messages as an engine renders them: an image is a part `{"type": "image"}`."""
        return [_shown(message, lambda image: {"type": "image"}) for message in self.messages]

    def plain(self) -> tuple[dict[str, Any], ...]:
        """The messages as another server takes them: roles, text and the images as sent."""
        return tuple(_shown(message, _as_sent) for message in self.messages)

    def images(self) -> Iterator[ImageSource]:
        """The images in the order of their parts."""
        for number, message in enumerate(self.messages):
            for place, part in enumerate(message.content):
                if isinstance(part, ImagePart):
                    yield ImageSource(f"messages[{number}].content[{place}].image_url.url", part.image_url.url)


def _shown(message: Message, image: Callable[[ImagePart], dict[str, Any]]) -> dict[str, Any]:
    return {
        "role": "system" if message.role == "developer" else message.role,
        "content": [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else image(part)
            for part in message.content
        ],
    }


def _as_sent(part: ImagePart) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": part.image_url.url}}
