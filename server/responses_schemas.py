"""The request as OpenAI's Responses API spells it; as of a chat, no field is let in that has no effect."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, FailFast, Field, Tag
from pydantic_core import PydanticCustomError, to_json

from server.images import ImageSource
from server.schemas import (
    ANY_OBJECT,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOP_LOGPROBS,
    Detail,
    Effort,
    JsonObjectFormat,
    JsonSchema,
    Refused,
    Request,
    Strict,
    Text,
    TextFormat,
    Turn,
    goes_with,
    not_raw,
    only,
)

LOGPROBS = "message.output_text.logprobs"


class InputText(Strict):
    type: Literal["input_text"]
    text: Text


class InputImage(Strict):
    type: Literal["input_image"]
    image_url: str
    detail: Detail | None = None
    file_id: Refused = None


class OutputText(Strict):
    """Of an earlier answer, in the form in which it was served."""

    type: Literal["output_text"]
    text: Text
    annotations: Annotated[Any, only([])] = None
    logprobs: list[Any] | None = None


SEVERAL = Field(min_length=1, max_length=MAX_PARTS)


def _as_parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


Part: TypeAlias = InputText | InputImage | OutputText
InstructionParts: TypeAlias = Annotated[list[InputText], SEVERAL]
UserParts: TypeAlias = Annotated[list[Annotated[InputText | InputImage, Field(discriminator="type")]], SEVERAL]
AssistantParts: TypeAlias = Annotated[list[Annotated[InputText | OutputText, Field(discriminator="type")]], SEVERAL]


class Item(Strict):
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InstructionItem(Item):
    type: Literal["message"] = "message"
    role: Literal["system", "developer"]
    content: Annotated[
        InstructionParts, FailFast(), BeforeValidator(_as_parts, json_schema_input_type=Text | InstructionParts)
    ]


class UserItem(Item):
    type: Literal["message"] = "message"
    role: Literal["user"]
    content: Annotated[UserParts, FailFast(), BeforeValidator(_as_parts, json_schema_input_type=Text | UserParts)]


class AssistantItem(Item):
    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: Annotated[
        AssistantParts, FailFast(), BeforeValidator(_as_parts, json_schema_input_type=Text | AssistantParts)
    ]
    phase: Literal["commentary", "final_answer"] | None = None


class ReasoningItem(Item):
    """A stage of an earlier answer, which is not shown to the model again."""

    type: Literal["reasoning"]
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: str | None = None
    swires: dict[str, Any] | None = None


def _kind(item: object) -> str | None:
    if not isinstance(item, dict):
        return None
    kind = "reasoning" if item.get("type") == "reasoning" else item.get("role")
    return {"developer": "system"}.get(kind, kind) if isinstance(kind, str) else None


InputItem: TypeAlias = Annotated[
    Annotated[InstructionItem, Tag("system")]
    | Annotated[UserItem, Tag("user")]
    | Annotated[AssistantItem, Tag("assistant")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(
        _kind,
        custom_error_type="unsupported",
        custom_error_message="must be a message of system, developer, user or assistant, or a reasoning item",
    ),
]


InputItems: TypeAlias = Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]


def _as_items(given: object) -> object:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _ends_with_user(items: list[InputItem]) -> list[InputItem]:
    if not isinstance(items[-1], UserItem):
        raise PydanticCustomError("invalid_messages", "the last item must be a message of the user")
    return items


class Reasoning(Strict):
    effort: Effort | None = None
    context: Annotated[Any, only("auto", "current_turn")] = None
    generate_summary: Refused = None
    mode: Annotated[Any, only("standard")] = None
    summary: Refused = None  # the stages are told as they are


class InlineJsonSchemaFormat(JsonSchema):
    type: Literal["json_schema"]


class TextOptions(Strict):
    format: Annotated[TextFormat | JsonObjectFormat | InlineJsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Annotated[Any, only("medium")] = None


class ResponsesStreamOptions(Strict):
    include_obfuscation: Annotated[Any, only(False)] = None


class ResponsesRequest(Request):
    prompt_param: ClassVar[str] = "input"
    schema_param: ClassVar[str] = "text.format"

    input: Annotated[
        InputItems,
        FailFast(),
        BeforeValidator(_as_items, json_schema_input_type=Text | InputItems),
        AfterValidator(_ends_with_user),
    ]
    instructions: Text | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    reasoning: Reasoning = Reasoning()
    text: TextOptions = TextOptions()
    include: Annotated[list[Literal["message.output_text.logprobs"]] | None, AfterValidator(not_raw)] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=MAX_TOP_LOGPROBS), goes_with("include", told=f"include {LOGPROBS}")
    ] = None
    stream_options: Annotated[ResponsesStreamOptions | None, goes_with("stream")] = None

    # What is not served, with the values that ask for nothing.
    access_programs: Refused = None
    background: Annotated[Any, only(False)] = None
    background_options: Refused = None
    context_management: Refused = None
    conversation: Refused = None
    image: Refused = None
    max_tool_calls: Refused = None
    previous_response_id: Refused = None
    prompt: Refused = None
    store: Annotated[Any, only(False)] = None
    tool_choice: Annotated[Any, only("auto", "none")] = None
    tools: Annotated[Any, only([])] = None
    truncation: Annotated[Any, only("disabled")] = None

    @property
    def effort(self) -> Effort | None:
        return self.reasoning.effort

    @property
    def max_answer_tokens(self) -> int | None:
        return self.max_output_tokens

    @property
    def json_schema(self) -> str | None:
        match self.text.format:
            case InlineJsonSchemaFormat(schema_=schema):
                return to_json(schema).decode()
            case JsonObjectFormat():
                return ANY_OBJECT
        return None

    @property
    def num_top_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.include else None

    def turns(self) -> Iterator[Turn]:
        if self.instructions is not None:
            yield Turn("system", (self.instructions,))
        for number, item in enumerate(self.input):
            if not isinstance(item, ReasoningItem):
                role = "system" if item.role == "developer" else item.role
                parts = enumerate(item.content)
                yield Turn(role, tuple(_part(part, f"input[{number}].content[{place}]") for place, part in parts))


def _part(part: Part, param: str) -> str | ImageSource:
    return ImageSource(f"{param}.image_url", part.image_url) if isinstance(part, InputImage) else part.text
