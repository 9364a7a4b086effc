from hypothesis import given
from hypothesis import strategies as st

from swires.parser import parse
from swires.result import answer_sections
from swires.stages import TAGS, Stage
from swires.types import ROOT, Candidate, Trajectory
from tests.swires.scripted import many


def answer(*texts: str, num_tokens: int = 6) -> Trajectory:
    """Each text is a candidate of `num_tokens` tokens; its place is its score."""
    trajectory = ROOT
    for place, text in enumerate(texts):
        candidate = Candidate(place, Stage.CONCLUSION, text, (0,) * num_tokens, "stop")
        trajectory = trajectory.then(candidate, float(place))
    return trajectory


def summed(trajectory: Trajectory) -> list[tuple[str, float | None, int]]:
    return [(section.text, section.score, section.num_tokens) for section in answer_sections(trajectory)]


def test_a_candidate_a_stage() -> None:
    staged = answer("<SUMMARY>a</SUMMARY>", "\n<CAPTION>b</CAPTION>", "<CONCLUSION>4</CONCLUSION>")
    assert summed(staged) == [("a", 0.0, 6), ("b", 1.0, 6), ("4", 2.0, 6)]


def test_a_candidate_that_spans_stages_is_shared_out_and_its_score_is_the_last_ones() -> None:
    whole = answer("<SUMMARY>aa</SUMMARY><CAPTION>bbb</CAPTION><CONCLUSION>4</CONCLUSION>")
    assert summed(whole) == [("aa", None, 2), ("bbb", None, 3), ("4", 0.0, 1)]


def test_a_stage_of_several_candidates() -> None:
    assert summed(answer("<REASONING>One.", " Two.", "</REASONING><CONCLUSION>4")) == [
        ("One. Two.", 1.0, 12),
        ("4", 2.0, 6),
    ]


def test_tokens_without_text_go_with_the_next() -> None:
    assert summed(answer("no", "tags", " here")) == [("notags here", 2.0, 18)]


def test_tokens_without_text_at_the_end_go_with_the_last() -> None:
    assert summed(answer("<CONCLUSION>Four.", "</CONCLUSION>")) == [("Four.", 0.0, 12)]


@many
@given(st.lists(st.lists(st.sampled_from([*TAGS, "<", "a", "b b", " "]), max_size=5).map("".join), min_size=1))
def test_sections_are_those_of_the_text_and_share_all_tokens(texts: list[str]) -> None:
    trajectory = answer(*texts)
    sections = answer_sections(trajectory)
    assert [(each.stage, each.text) for each in sections] == [
        (each.stage, each.text) for each in parse(trajectory.text)
    ]
    assert sum(each.num_tokens for each in sections) == (len(trajectory.token_ids) if sections else 0)
