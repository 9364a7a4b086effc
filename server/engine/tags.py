"""The tokens that close stages."""

from collections.abc import Mapping

from server.checkpoint import Checkpoint, CheckpointError
from server.engine.tokens import Encode
from swires.stages import Stage


def closing_ids(checkpoint: Checkpoint, encode: Encode) -> Mapping[Stage, int | None]:
    """The token that closes each stage, None where the tag is text of several tokens.

    Raises CheckpointError where the checkpoint promises a token.
    """
    return {stage: _closing_id(stage, checkpoint, encode) for stage in Stage}


def _closing_id(stage: Stage, checkpoint: Checkpoint, encode: Encode) -> int | None:
    ids = encode(stage.closing)
    if len(ids) == 1:
        return ids[0]
    if checkpoint.stages is not None and checkpoint.stages.tags == "special":
        raise CheckpointError(f"{stage.closing} should be a special token, the tokenizer makes it {len(ids)}")
    return None
