"""What vLLM is asked for, here or over HTTP: its `SamplingParams` by their names."""

from typing import Any

from server.engine.structure import structural_tag
from server.engine.writing import TOKENS_PER_CHUNK
from swires.stages import Stage
from swires.types import Sampling


def sampling_params(
    stage: Stage, sampling: Sampling, index: int, *, room: int, live: bool, closing_id: int | None
) -> dict[str, Any]:
    """Of candidate `index`, where the context has `room` for so many tokens and `closing_id` closes the stage.

    The closing tag is a part of a structure: a token that stops a request is let through at its end alone, as is the
    one that ends any text, which some models prefer to the tag.
    """
    schema = sampling.json_schema if stage is Stage.CONCLUSION else None
    stop_token_ids = [closing_id] if closing_id is not None and schema is None else []
    stop = [*sampling.stop, *([] if stop_token_ids else [stage.closing])]
    likelihood = 0 if sampling.likelihood else None
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else sampling.seed + index,
        "max_tokens": min(sampling.max_tokens, room),
        "logprobs": likelihood if sampling.top_logprobs is None else sampling.top_logprobs,
        "structured_outputs": None if schema is None else {"structural_tag": structural_tag(schema)},
        "stop": stop,
        "stop_token_ids": stop_token_ids,
        "detokenize": bool(stop),
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "stream_interval": 1 if live else TOKENS_PER_CHUNK,
    }
