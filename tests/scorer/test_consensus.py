import pytest

from server.scorer.consensus import Consensus
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Trajectory

PROBLEM = Problem("prompt", 10)


def ending(stage: Stage, *texts: str) -> list[Trajectory]:
    summary = ROOT.then(Candidate(0, Stage.SUMMARY, "<SUMMARY>The same.</SUMMARY>", (), "stop"))
    return [
        summary.then(Candidate(number, stage, f"{stage.opening}{text}{stage.closing}", (), "stop"))
        for number, text in enumerate(texts, 1)
    ]


async def test_conclusions_are_voted_on_whatever_their_case_and_full_stop() -> None:
    scores = await Consensus().score(PROBLEM, ending(Stage.CONCLUSION, "Yes", "no", "yes.", "-1"))
    assert scores.values == (0.0, -0.5, 0.0, -0.5)
    assert (scores.num_tokens, scores.num_cached_tokens) == (0, 0)


async def test_whole_answers_are_voted_on_by_their_conclusion() -> None:
    texts = [f"<REASONING>{how}</REASONING><CONCLUSION>{what}</CONCLUSION>" for how, what in ("a4", "b4", "c5")]
    answers = [ROOT.then(Candidate(number, Stage.CONCLUSION, text, (), "stop")) for number, text in enumerate(texts)]
    scores = await Consensus().score(PROBLEM, answers)
    assert scores.values == pytest.approx((1 / 3, 1 / 3, -1 / 3))


async def test_stages_of_free_text_agree_by_their_words() -> None:
    texts = ("a red ball", "a red cube", "two dogs")
    scores = await Consensus().score(PROBLEM, ending(Stage.CAPTION, *texts))
    assert scores.values == pytest.approx((1 / 9, 1 / 9, -1 / 3))  # two of three words are shared


async def test_a_lone_candidate_agrees_with_itself() -> None:
    for text in ("one", ""):
        assert (await Consensus().score(PROBLEM, ending(Stage.REASONING, text))).values == (1.0,)
