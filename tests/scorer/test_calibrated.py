from collections.abc import Sequence

import pytest

from server.checkpoint import Deviation
from server.scorer.calibrated import Calibrated
from server.scorer.shown import stage_judged
from swires.errors import ScorerError
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Trajectory

CALIBRATION = {stage: Deviation(mean=stage.value, std=stage.value + 1) for stage in Stage}


class Sevens:
    needs_likelihood = True
    compares = False

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        return Scores((7.0,) * len(trajectories), 5, 6)


def ending(stage: Stage, text: str) -> Trajectory:
    return ROOT.then(Candidate(0, stage, text, (), "stop"))


async def test_scores_are_deviations_from_the_mean_of_the_stage() -> None:
    scorer = Calibrated(Sevens(), CALIBRATION)
    trajectories = [ending(stage, f"{stage.opening}x{stage.closing}") for stage in Stage]
    assert await scorer.score(Problem("", 1), trajectories) == Scores((7.0, 3.0, 5 / 3, 1.0), 5, 6)
    assert scorer.needs_likelihood


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION>", Stage.CAPTION),
        ("<SUMMARY>a</SUMMARY><CAPTION>b.", Stage.CAPTION),
        ("<CONCLUSION>a</CONCLUSION><SUMMARY>", Stage.SUMMARY),
        ("no tag", Stage.CONCLUSION),
    ],
)
def test_a_candidate_is_judged_as_the_stage_it_ends_in(text: str, stage: Stage) -> None:
    assert stage_judged(ending(Stage.CONCLUSION, text)) is stage


def test_earlier_candidates_tell_the_stage_of_an_open_one() -> None:
    begun = ending(Stage.CONCLUSION, "<SUMMARY>A plan.")
    assert stage_judged(begun.then(Candidate(1, Stage.CONCLUSION, " More.", (), "stop"))) is Stage.SUMMARY


def test_a_stage_that_is_not_calibrated_is_refused_at_once() -> None:
    with pytest.raises(ScorerError, match="REASONING, CONCLUSION: run `swires calibrate`"):
        Calibrated(Sevens(), {stage: CALIBRATION[stage] for stage in (Stage.SUMMARY, Stage.CAPTION)})
