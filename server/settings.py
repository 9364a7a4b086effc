"""Settings of the server and of who asks it: options, else SWIRES_* variables. Nothing else reads the environment."""

from pathlib import Path, PurePath
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PolicyName = Literal["swires", "adaptive", "stage_beam", "sentence_beam", "best_of_n", "greedy"]
PresetName = Literal["fast", "balanced", "thorough"]
EngineName = Literal["vllm", "http", "transformers"]
Sees = Literal["answer", "stage"]
LogFormat = Literal["text", "json"]
OtlpProtocol = Literal["grpc", "http/protobuf"]

MIB = 1024 * 1024
SCORER_TIMEOUT_S = 30.0
CACHED_POSITIONS = 16_384
"""2 GB of Llama-3.2-11B-Vision in half precision, beside the images."""


def _names(value: object) -> object:
    """`a,b` as it stands in a variable or on the command line."""
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


class Settings(BaseSettings):
    """The fields in the order of `swires serve --help`; each description is the help of its option."""

    model_config = SettingsConfigDict(env_prefix="SWIRES_", env_ignore_empty=True, frozen=True, allow_inf_nan=False)

    model: str = Field(min_length=1, description="checkpoint to serve: a directory or a Hugging Face id")
    served_name: str | None = Field(None, description="model name for clients; by default the last part of --model")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")

    api_keys: Path | None = Field(
        None, description="file of the keys that requests must bring, made by `swires new-key`; read again on change"
    )
    allow_no_keys: bool = Field(
        False, description="true to let anybody ask who reaches a --host that is not this machine alone"
    )
    open_metrics: bool = Field(False, description="true to answer /metrics without a key")
    max_key_searches: int | None = Field(
        None, ge=1, description="searches that one key may have at once; more are answered with 429"
    )
    max_key_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens that the searches of one key may take in a minute; more are answered with 429",
    )

    engine: EngineName = Field(
        "vllm",
        description="what samples: vllm, http for vLLM servers elsewhere, or transformers for architectures that vLLM "
        "has dropped",
    )
    engine_url: AnyHttpUrl | None = Field(
        None,
        description="server that --engine http asks, or a router before many, each started with --enable-scale-out; "
        "its key: SWIRES_ENGINE_API_KEY",
    )
    engine_api_key: SecretStr | None = Field(None, exclude=True)
    engine_stall_s: float = Field(
        300, gt=0, description="seconds after which an engine that leaves its requests without a word counts as dead"
    )
    max_cached_positions: int = Field(
        CACHED_POSITIONS, ge=0, description="positions whose keys and values --engine transformers keeps"
    )

    scorers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        (),
        description="scorers to offer, the first is the default: verifier,reward_model,likelihood,consensus,judge; "
        "by default those ready",
    )
    scorer_sees: Sees = Field(
        "answer", description="what verifier, reward model and judge are shown: the answer so far or its newest stage"
    )
    scorer_timeout_s: float = Field(
        SCORER_TIMEOUT_S, gt=0, description="seconds after which a search goes on without its scorer"
    )
    reward_url: AnyHttpUrl | None = Field(
        None, description="vLLM server with a reward model (vllm serve DIR --runner pooling --convert classify)"
    )
    reward_model: str | None = Field(
        None, min_length=1, description="reward model to load beside the checkpoint: a directory"
    )
    reward_memory: float = Field(
        0.3, gt=0, lt=0.8, description="share of the accelerator's memory for --reward-model; the checkpoint gets less"
    )
    judge_url: AnyHttpUrl | None = Field(
        None,
        description="OpenAI-compatible API of the judge, as http://127.0.0.1:9000/v1; its key: SWIRES_JUDGE_API_KEY",
    )
    judge_model: str | None = Field(None, min_length=1, description="chat model that judges, by its name there")
    judge_api_key: SecretStr | None = Field(None, exclude=True)  # a command line is seen by all users of a machine

    policy: PolicyName = Field("swires", description="search policy of requests that name none")
    preset: PresetName = Field("balanced", description="preset of requests that name none")
    temperature: float = Field(0.6, gt=0, le=2, description="sampling temperature of requests that name none")
    top_p: float = Field(0.9, gt=0, le=1, description="nucleus of requests that name none")

    max_generations: int = Field(64, ge=1, description="greatest number of candidates that one search may sample")
    max_total_tokens: int = Field(
        65_536, ge=1, description="greatest number of tokens one search may generate and score"
    )
    max_answer_tokens: int = Field(8_192, ge=1, description="greatest number of tokens in one answer")
    timeout_s: float = Field(120, gt=0, description="greatest number of seconds that one search may take")
    max_candidates: int = Field(256, ge=1, description="candidates that all searches together may sample at once")
    look_ahead: int = Field(
        64,
        ge=0,
        description="candidates of all searches up to which likely stages are begun early, before it is known that the "
        "search goes there; 0 for never",
    )
    max_waiting: int = Field(64, ge=0, description="searches that may wait for their turn; more are answered with 503")
    shrink_under_load: bool = Field(
        False,
        description="true to let searches that begin while others wait sample fewer candidates, down to what their "
        "policy needs when --max-waiting wait; answers tell it as stopped_by: load",
    )

    max_arriving: int = Field(
        128, ge=1, description="requests that may be read and rendered at once; more are answered with 503"
    )
    max_body_mib: int = Field(32, ge=1, description="greatest size of a request in MiB")
    max_images: int = Field(1, ge=1, description="greatest number of images in a request")
    max_image_mib: int = Field(16, ge=1, description="greatest size of one encoded image in MiB")
    max_image_pixels: int = Field(32_000_000, ge=1, description="greatest number of pixels in one image")
    allow_image_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="hosts that images are fetched from, as a.org,b.org; by default none"
    )
    reasoning_content: bool = Field(
        False, description="true to tell the earlier stages as reasoning_content too, as other servers name them"
    )
    keep_alive_s: float = Field(15, gt=0, le=15, description="seconds of silence in a stream before a comment")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what the log tells")
    log_format: LogFormat = Field("text", description="how it tells it: text, or JSON, an object in each line")
    otlp_traces_endpoint: str | None = Field(
        None,
        min_length=1,
        description="OpenTelemetry collector that is sent a trace of each search, vLLM's spans in it, as "
        "http://127.0.0.1:4317; by default OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, else none",
    )
    trace_content: bool = Field(
        False, description="true to have questions, candidates and answers in traces too, as text"
    )

    @property
    def name(self) -> str:
        return self.served_name or PurePath(self.model).name


class Collector(BaseSettings):
    """Where traces go, by OpenTelemetry's own variables; its SDK reads all others."""

    model_config = SettingsConfigDict(env_prefix="OTEL_EXPORTER_OTLP_TRACES_", env_ignore_empty=True, frozen=True)

    endpoint: str | None = None
    protocol: OtlpProtocol = "grpc"


class NewKey(BaseSettings):
    """What `swires new-key` makes."""

    model_config = SettingsConfigDict(env_prefix="SWIRES_", env_ignore_empty=True, frozen=True)

    label: str = Field(description="what the log calls it")
    api_keys: Path = Field(description="file to append its hash to, which is made if there is none")
    searches: int | None = Field(None, ge=1, description="searches that it may have at once; by default the server's")
    tokens_per_minute: int | None = Field(
        None, ge=1, description="tokens that its searches may take in a minute; by default the server's"
    )


class AskSettings(BaseSettings):
    """Which server `swires ask` asks."""

    model_config = SettingsConfigDict(env_prefix="SWIRES_", env_ignore_empty=True, frozen=True)

    url: AnyHttpUrl = Field(
        AnyHttpUrl("http://127.0.0.1:8000"), description="server to ask; where it wants a key: SWIRES_API_KEY"
    )
    api_key: SecretStr | None = Field(None, exclude=True)
