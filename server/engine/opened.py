"""The engine that `--engine` names, from its start to its end."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from server.logs import vllm_logging
from server.serving_engine import CheckpointEngine
from server.settings import EngineName, Settings
from swires.errors import EngineError

BELONGS_TO: Mapping[str, EngineName] = {
    "engine_url": "http",
    "max_cached_positions": "transformers",
    "reward_model": "vllm",
    "reward_memory": "vllm",
}
"""Settings that mean something to one engine alone."""


def check_engine(settings: Settings, arguments: Sequence[str]) -> None:
    """Raises EngineError, naming the option that belongs to another engine; `arguments` are vLLM's own."""
    for name, engine in BELONGS_TO.items():
        if name in settings.model_fields_set and settings.engine != engine:
            raise EngineError(f"--{name.replace('_', '-')}: goes with --engine {engine}")
    if settings.engine == "http" and settings.engine_url is None:
        raise EngineError("--engine-url: is missing, --engine http needs it")
    if arguments and settings.engine != "vllm":
        raise EngineError("vLLM's options: go with --engine vllm")


@asynccontextmanager
async def opened_engine(
    settings: Settings, ours: Mapping[str, Any], arguments: Sequence[str], *, beside_reward_model: bool
) -> AsyncGenerator[CheckpointEngine, None]:
    """Start it, with the options `ours` and over them `arguments` where it is vLLM. Raises EngineError,
    CheckpointError."""
    with vllm_logging(settings) as logging:
        try:
            made = _made(settings, {**ours, **logging}, arguments, beside_reward_model)
        except ImportError as error:
            raise EngineError(f"--engine {settings.engine}: {error}", dead=True) from error
        async with made as engine:
            yield engine


def _made(
    settings: Settings, ours: Mapping[str, Any], arguments: Sequence[str], beside_reward_model: bool
) -> AbstractAsyncContextManager[CheckpointEngine]:
    """What each of them imports takes seconds."""
    match settings.engine:
        case "vllm":
            from server.engine.vllm_engine import VllmEngine, engine_options, memory_beside

            shared = memory_beside(settings.reward_memory)[1] if beside_reward_model else {}
            return VllmEngine(settings.model, **{**ours, **shared, **engine_options(arguments)})
        case "http":
            from server.engine.http_engine import HttpEngine

            key = settings.engine_api_key.get_secret_value() if settings.engine_api_key else None
            return HttpEngine(settings.model, str(settings.engine_url), key=key)
        case "transformers":
            from server.engine.transformers_engine import TransformersEngine

            return TransformersEngine(settings.model, max_cached_positions=settings.max_cached_positions)
