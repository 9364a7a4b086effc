"""The shapes of what the server answers, for its OpenAPI document."""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from server.checkpoint import StageName
from server.responses import Status
from server.settings import PolicyName, PresetName
from swires.budget import Limit
from swires.result import Fate
from swires.types import FinishReason

Numbers: TypeAlias = dict[str, float | bool | None]


class Told(BaseModel):
    """What has a default may be missing, there is nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Error(Told):
    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str | None


class ErrorAnswer(Told):
    error: Error
    request_id: str


class StageTold(Told):
    stage: StageName
    text: str
    score: float | None
    tokens: int


class TokensTold(Told):
    """`winner + discarded + aborted` were generated, `scored` were read by the scorer; of all prompt tokens, `cached`
    came from the prefix cache, `computed` did not."""

    prompt: int
    winner: int
    discarded: int
    aborted: int
    scored: int
    cached: int
    computed: int


class NodeTold(Told):
    """A candidate in the tree of the search."""

    id: int
    parent: int | None
    stage: StageName
    text: str
    tokens: int
    finish_reason: FinishReason | None
    logprob: float | None
    score: float | None
    fate: Fate


class Plan(Told):
    """How the search was set up."""

    id: str
    policy: PolicyName
    preset: PresetName
    scorer: str
    numbers: Numbers
    budget: dict[str, float]


class Search(Plan):
    """How the answer was found and what it cost."""

    scorer_degraded: bool
    stages: list[StageTold]
    generations: int
    retraces: int
    score: float | None
    accepted: bool | None
    stopped_by: Limit | None
    tokens: TokensTold
    seconds: float
    trace: list[NodeTold] | None


class CostTold(Told):
    generations: float
    tokens: int


class Estimated(Told):
    least: CostTold
    expected: CostTold
    greatest: CostTold
    lengths: dict[str, int]


class DryRun(Plan):
    dry_run: Estimated


class LikelyToken(Told):
    token: str
    logprob: float
    bytes: list[int]


class TokenTold(LikelyToken):
    top_logprobs: list[LikelyToken]


class Logprobs(Told):
    content: list[TokenTold]
    refusal: None


class Message(Told):
    """`content` is the CONCLUSION, `reasoning` the stages before it."""

    role: Literal["assistant"]
    content: str
    reasoning: str | None
    reasoning_content: str | None = None
    refusal: None


class ChatChoice(Told):
    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionDetails(Told):
    reasoning_tokens: int


class Usage(Told):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionDetails


class ChatCompletion(Told):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    swires: Search | DryRun


class ReasoningText(Told):
    type: Literal["reasoning_text"]
    text: str


class StageOf(Told):
    stage: StageName


class ReasoningTold(Told):
    """A stage before the CONCLUSION."""

    id: str
    type: Literal["reasoning"]
    summary: list[Any]
    swires: StageOf
    status: Status
    content: list[ReasoningText]


class OutputTextTold(Told):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenTold]


class MessageTold(Told):
    """The CONCLUSION."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Status
    content: list[OutputTextTold]


class InputDetails(Told):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Told):
    reasoning_tokens: int


class ResponseUsage(Told):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Told):
    reason: Literal["max_output_tokens"]


class ResponseTold(Told):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    background: Literal[False]
    error: None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    output: list[ReasoningTold | MessageTold]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: Literal["auto", "none"]
    tools: list[Any]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage
    user: str | None
    swires: Search | DryRun


class ModelTold(Told):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["swires"]
    root: str
    max_model_len: int


class Offers(Told):
    """What the `swires` object of a request may name; of a scorer, the policies that it serves."""

    policy: PolicyName
    preset: PresetName
    policies: list[PolicyName]
    presets: list[PresetName]
    scorers: dict[str, list[PolicyName]]


class ModelList(Told):
    object: Literal["list"]
    data: list[ModelTold]
    swires: Offers


class Version(Told):
    version: str = Field(description="of this server")
    engine: str = Field(description="which engine, and its version")
