"""What the server asks of an engine beyond what a search does."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL.Image import Image

from server.engine.labels import LabelReader
from swires.protocols import Engine
from swires.types import Problem


class ServingEngine(Engine, Protocol):
    @property
    def alive(self) -> bool: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def max_logprobs(self) -> int:
        """The greatest `Sampling.top_logprobs`."""
        ...

    @property
    def version(self) -> str:
        """What it is and which, as in `vllm 0.32.0`."""
        ...

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        """Render a chat, once for all requests of a search; its parts `{"type": "image"}` stand for `images` in order.

        Raises InvalidPlan naming `messages`, EngineError.
        """
        ...

    async def check_schema(self, schema: str) -> None:
        """Raises InvalidPlan naming `json_schema` where a conclusion cannot be made to keep to it."""
        ...


class CheckpointEngine(ServingEngine, LabelReader, Protocol):
    """An engine that the verifier may ask too."""
