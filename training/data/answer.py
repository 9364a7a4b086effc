"""Answers in four stages, read strictly: not all that serving makes sense of is good enough to learn from."""

import re
from collections.abc import Sequence
from itertools import zip_longest

from swires.stages import TAGS, Stage
from training.data.rejection import Reason, Rejected

_TAG = re.compile(f"({'|'.join(map(re.escape, TAGS))})")
_OPENED = {stage.opening: stage for stage in Stage}


def read_answer(text: str) -> dict[Stage, str]:
    """The text of each stage, as `swires.parser.parse` reads it.

    Raises Rejected unless all four are there, in order, each closed and with text, and nothing else is.
    """
    parts = _TAG.split(text)
    texts, tags = [part.strip() for part in parts[::2]], parts[1::2]
    if tuple(tags) != TAGS:
        raise _misplaced(tags)
    if outside := " ".join(filter(None, texts[::2])):
        raise Rejected(Reason.TEXT_OUTSIDE_STAGES, f"{outside[:60]!r} stands outside of the stages")
    stages = dict(zip(Stage, texts[1::2], strict=True))
    for stage, inside in stages.items():
        if not inside:
            raise Rejected(Reason.STAGE_EMPTY, f"{stage.name} has no text")
    return stages


def _misplaced(tags: Sequence[str]) -> Rejected:
    """What is wrong with tags that are not the eight in their order."""
    if not tags:
        return Rejected(Reason.UNTAGGED_TURN, "there are no tags")
    for opening, closing in zip_longest(tags[::2], tags[1::2], fillvalue="nothing"):
        if opening not in _OPENED:
            return Rejected(Reason.STRAY_CLOSING_TAG, f"{opening} closes nothing")
        if closing != _OPENED[opening].closing:
            return Rejected(Reason.STAGE_NOT_CLOSED, f"after {opening} comes {closing}")
    stages = [_OPENED[tag] for tag in tags[::2]]
    for stage in Stage:
        if stages.count(stage) > 1:
            return Rejected(Reason.STAGE_REPEATED, f"{stage.name} is there {stages.count(stage)} times")
    for stage in Stage:
        if stage not in stages:
            return Rejected(Reason.STAGE_MISSING, f"{stage.name} is not there")
    return Rejected(Reason.STAGES_OUT_OF_ORDER, ", ".join(stage.name for stage in stages))
