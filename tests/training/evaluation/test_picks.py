import itertools
from typing import Any

import pytest

from swires.stages import Stage
from training.evaluation.answers import Answer
from training.evaluation.picks import picks
from training.tasks.scenes import scenes

(EXAMPLE,) = itertools.islice(scenes(1), 1)


def caption(score: float | None, *, right: bool, finish_reason: str = "stop") -> dict[str, Any]:
    text = EXAMPLE.stages[Stage.CAPTION] if right else "Nothing."
    return {
        "stage": "CAPTION",
        "text": f"<CAPTION>{text}</CAPTION>",
        "score": score,
        "finish_reason": finish_reason,
    }


def searched(*trace: dict[str, Any]) -> Answer:
    return Answer("swires", 0, 0, "3", "3", 10, 0, 1, 0, 0.1, trace)


def test_the_pick_of_a_stage_is_its_best_scored_candidate() -> None:
    good = searched(caption(1.0, right=True), caption(0.5, right=False), caption(None, right=True))
    bad = searched(
        caption(0.0, right=True), caption(0.5, right=False), caption(0.4, right=False), caption(0.0, right=False)
    )
    cut = searched(caption(9.0, right=False, finish_reason="length"))
    (only,) = picks([good, bad, cut], [EXAMPLE])
    assert (only.stage, only.num_searches) == (Stage.CAPTION, 2)
    assert (only.sampled, only.possible, only.picked) == (0.375, 1.0, 0.5)
    assert only.ranked == pytest.approx((1 + 0 + 0 + 0.5) / 4)


def test_whole_answers_are_judged_by_their_conclusion() -> None:
    node = {"stage": "CONCLUSION", "text": EXAMPLE.text, "score": 0.1, "finish_reason": "stop"}
    (only,) = picks([searched(node)], [EXAMPLE])
    assert (only.stage, only.picked) == (Stage.CONCLUSION, 1.0)
