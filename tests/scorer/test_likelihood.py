import pytest

from server.scorer.likelihood import Likelihood
from swires.errors import ScorerError
from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem

PROBLEM = Problem("prompt", 10)


async def test_the_score_is_the_newest_candidate_s_mean() -> None:
    summary = Candidate(0, Stage.SUMMARY, "abcd", (1, 2, 3, 4), "stop", -100.0)
    caption = Candidate(1, Stage.CAPTION, "ab", (1, 2), "stop", -3.0)
    scores = await Likelihood().measure(PROBLEM, [ROOT.then(summary), ROOT.then(summary).then(caption)])
    assert scores.values == (-25.0, -1.5)
    assert (scores.num_tokens, scores.num_cached_tokens) == (0, 0)
    assert Likelihood().needs_likelihood


async def test_a_candidate_without_one_cannot_be_scored() -> None:
    with pytest.raises(ScorerError):
        await Likelihood().measure(PROBLEM, [ROOT.then(Candidate(0, Stage.SUMMARY, "ab", (1, 2), "stop"))])
