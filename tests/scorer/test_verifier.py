import math

import pytest

from server.checkpoint import VerifierTokens
from server.engine.fake import FakeEngine
from server.scorer.verifier import Verifier
from swires.errors import EngineError, ScorerError
from swires.stages import Stage
from swires.types import Candidate, Problem, Trajectory

TOKENS = VerifierTokens(ask="?", yes="+", no="-")
PROBLEM = Problem("prompt", 100)


def trajectory(*texts: str) -> Trajectory:
    found = Trajectory()
    for number, (stage, text) in enumerate(zip(Stage, texts, strict=False)):
        found = found.then(Candidate(number, stage, text, tuple(map(ord, text)), "stop"))
    return found


async def test_the_score_is_how_much_likelier_yes_is_than_no() -> None:
    engine = FakeEngine()
    one, two = trajectory("a plan", "a view"), trajectory("a plan", "another view")
    scores = await Verifier(engine, TOKENS).measure(PROBLEM, [one, two])
    for trajectory_, score in zip((one, two), scores.values, strict=True):
        prefix = trajectory_.token_ids + engine.encode("?")
        (read,) = await engine.read_labels(PROBLEM, [prefix], engine.encode("+") + engine.encode("-"))
        assert score == pytest.approx(read.logprobs[0] - read.logprobs[1])
        assert math.isfinite(score)


async def test_tokens_are_told_as_computed_and_cached() -> None:
    engine = FakeEngine()
    one = trajectory("a plan", "a view")
    scores = await Verifier(engine, TOKENS).measure(PROBLEM, [one, one])
    assert scores.num_tokens + scores.num_cached_tokens == 2 * (PROBLEM.num_prompt_tokens + len(one.token_ids) + 1)
    assert 0 < scores.num_tokens < scores.num_cached_tokens


async def test_no_room_for_a_verdict() -> None:
    one = trajectory("a plan")
    fits = FakeEngine(max_model_len=PROBLEM.num_prompt_tokens + len("a plan?") + 1)
    assert (await Verifier(fits, TOKENS).measure(PROBLEM, [one])).values
    full = FakeEngine(max_model_len=PROBLEM.num_prompt_tokens + len("a plan?"))
    with pytest.raises(ScorerError, match="room"):
        await Verifier(full, TOKENS).measure(PROBLEM, [one])


async def test_the_engine_s_failure_is_passed_on() -> None:
    async def fail() -> None:
        raise EngineError("broken")

    with pytest.raises(EngineError, match="broken"):
        await Verifier(FakeEngine(step=fail), TOKENS).measure(PROBLEM, [trajectory("a plan")])


def test_an_answer_must_be_one_token() -> None:
    with pytest.raises(ScorerError, match="'yes' must be one token, the tokenizer makes it 3"):
        Verifier(FakeEngine(), VerifierTokens(ask="?", yes="yes", no="-"))
