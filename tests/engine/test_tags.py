from collections.abc import Sequence

import pytest

from server.checkpoint import Checkpoint, CheckpointError
from server.engine.tags import closing_ids
from swires.stages import Stage


def in_one_token(text: str) -> Sequence[int]:
    return [len(text)]


def in_characters(text: str) -> Sequence[int]:
    return list(map(ord, text))


def checkpoint(tags: str) -> Checkpoint:
    return Checkpoint.model_validate({"stages": {"tags": tags}})


def test_a_tag_of_one_token_closes_its_stage_by_it() -> None:
    assert closing_ids(checkpoint("special"), in_one_token) == {stage: len(stage.closing) for stage in Stage}


@pytest.mark.parametrize("known", [checkpoint("text"), Checkpoint()])
def test_a_tag_of_several_tokens_is_text(known: Checkpoint) -> None:
    assert closing_ids(known, in_characters) == dict.fromkeys(Stage)


def test_a_special_token_that_is_none_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="</SUMMARY> should be a special token"):
        closing_ids(checkpoint("special"), in_characters)
