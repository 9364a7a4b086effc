import pytest

from server.scorer.shown import shown
from swires.stages import Stage
from swires.types import ROOT, Candidate
from tests.scorer.answers import captions


def test_the_answer_so_far_or_its_newest_stage() -> None:
    (caption,) = captions("Two red squares.")
    assert shown(caption, "answer") == caption.text
    assert shown(caption, "stage") == "<CAPTION>Two red squares.</CAPTION>"


@pytest.mark.parametrize(
    ("text", "newest"),
    [
        ("<REASONING>1 + 1</REASONING><CONCLUSION>2</CONCLUSION>", "<CONCLUSION>2</CONCLUSION>"),
        ("<SUMMARY>A plan.</SUMMARY><CAPTION>Two.", "<CAPTION>Two."),
        ("no tag", "no tag"),
    ],
)
def test_a_candidate_of_several_stages(text: str, newest: str) -> None:
    assert shown(ROOT.then(Candidate(0, Stage.CONCLUSION, text, (), "stop")), "stage") == newest


def test_a_stage_of_several_candidates_is_shown_from_its_beginning() -> None:
    begun = ROOT.then(Candidate(0, Stage.CONCLUSION, "<SUMMARY>A plan.", (), "stop"))
    assert shown(begun.then(Candidate(1, Stage.CONCLUSION, " More.", (), "stop")), "stage") == "<SUMMARY>A plan. More."
