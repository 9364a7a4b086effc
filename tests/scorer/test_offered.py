import json
import logging

import pytest

from server import sample
from server.checkpoint import Checkpoint
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeClassifier
from server.scorer.offered import (
    SCORERS,
    Beside,
    check_defaults,
    chosen_scorers,
    make_scorers,
    opened,
    scorers_beside,
)
from server.settings import PolicyName, Sees, Settings
from swires.errors import ScorerError
from swires.stages import Stage
from tests.scorer.answers import PROBLEM, captions
from tests.scorer.chat_judge import longer, replying
from tests.scorer.loopback import Json, http, loopback, ok

CALIBRATED = {stage.name: {"mean": 0.0, "std": 1.0} for stage in Stage}
VERIFIER = {"ask": "?", "yes": "+", "no": "-"}
BOTH = ("reward_model", "judge")
URL = "http://127.0.0.1:9"


def known(*calibrated: str, verifier: bool = True) -> Checkpoint:
    parts = {"verifier": VERIFIER} if verifier else {}
    return Checkpoint.model_validate(
        {"stages": {"tags": "special"}, **parts, "calibration": dict.fromkeys(calibrated, CALIBRATED)}
    )


def settings(**options: object) -> Settings:
    return Settings.model_validate({"model": "demo", **options})


def test_without_names_all_that_are_ready_the_best_first() -> None:
    assert chosen_scorers(known("verifier", "likelihood"), ()) == ("verifier", "likelihood", "consensus")
    everything = known("likelihood", "reward_model", "verifier")
    assert chosen_scorers(everything, (), beside=BOTH) == SCORERS
    assert chosen_scorers(Checkpoint(), (), beside=("judge",)) == ("consensus", "judge")
    assert chosen_scorers(everything, ()) == ("verifier", "likelihood", "consensus")


def test_with_names_these() -> None:
    assert chosen_scorers(known(), ("judge", "consensus"), beside=("judge",)) == ("judge", "consensus")
    assert chosen_scorers(known("reward_model"), ("reward_model",), beside=BOTH) == ("reward_model",)


def test_another_view_has_a_calibration_of_its_own() -> None:
    seen = known("verifier", "verifier:stage", "likelihood")
    assert chosen_scorers(seen, (), sees="stage") == ("verifier", "likelihood", "consensus")
    with pytest.raises(ScorerError, match="run `swires calibrate`"):
        chosen_scorers(known("verifier", "likelihood"), (), sees="stage")
    assert chosen_scorers(known("likelihood", verifier=False), (), sees="stage") == ("likelihood", "consensus")


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("reward_model",), "--scorers: reward_model needs --reward-url or --reward-model"),
        (("judge",), "--scorers: judge needs --judge-url and --judge-model"),
        (("best",), "--scorers: the checkpoint has no scorer 'best', only verifier, likelihood, consensus"),
    ],
)
def test_what_a_scorer_lacks(names: tuple[str, ...], line: str) -> None:
    with pytest.raises(ScorerError) as refused:
        chosen_scorers(known("verifier"), names)
    assert str(refused.value) == line


def test_a_reward_model_that_is_named_must_be_calibrated() -> None:
    with pytest.raises(ScorerError, match="run `swires calibrate`"):
        chosen_scorers(known("verifier"), (), beside=("reward_model",))


@pytest.mark.parametrize(
    ("options", "beside"),
    [
        ({}, ()),
        ({"reward_url": URL}, ("reward_model",)),
        ({"reward_model": "."}, ("reward_model",)),
        ({"judge_url": URL, "judge_model": "critic"}, ("judge",)),
        ({"judge_url": URL, "judge_model": "critic", "reward_url": URL}, BOTH),
    ],
)
def test_models_beside_the_checkpoint(options: Json, beside: tuple[str, ...]) -> None:
    assert scorers_beside(settings(**options)) == beside


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"judge_url": URL}, "--judge-model: is missing, --judge-url needs it"),
        ({"judge_model": "critic"}, "--judge-url: is missing, --judge-model needs it"),
        ({"reward_model": "/no/such"}, "--reward-model: there is no directory /no/such"),
        ({"reward_model": ".", "reward_url": URL}, "--reward-model: is one, --reward-url another; give one of them"),
    ],
)
def test_options_that_do_not_go_together(options: Json, line: str) -> None:
    with pytest.raises(ScorerError) as refused:
        scorers_beside(settings(**options))
    assert str(refused.value) == line


@pytest.mark.parametrize("policy", ["swires", "stage_beam", "sentence_beam", "best_of_n", "greedy"])
def test_defaults_that_every_request_would_be_refused_for(policy: PolicyName) -> None:
    check_defaults(policy, "verifier")
    if policy != "swires":
        check_defaults(policy, "judge")
        return
    with pytest.raises(ScorerError, match="--scorers: judge only ranks, but swires compares scores with a threshold"):
        check_defaults(policy, "judge")


def served(body: Json) -> bytes:
    return replying(longer)(body) if "model" in body else ok({"data": [{"probs": [0.25]}]})


async def test_servers_are_reached_and_tried_and_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with loopback(served) as server:
        options = settings(
            reward_url=server.url, judge_url=f"{server.url}/v1", judge_model="critic", judge_api_key="sk-secret"
        )
        async with opened(options, BOTH) as beside:
            assert sorted(asked.path for asked in server.asked) == ["/classify", *["/v1/chat/completions"] * 2]
            assert sample.message() in server.asked[0].body["messages"]
            scorers = make_scorers(FakeEngine(), known("reward_model"), BOTH, beside)
            assert (await scorers["reward_model"].score(PROBLEM, captions("Two."))).values == (0.25,)
            assert (await scorers["judge"].score(PROBLEM, captions("Two.", "Twenty."))).values == (0, 1)
        with_key = [asked.path for asked in server.asked if "Bearer sk-secret" in asked.head]
    assert set(with_key) == {"/v1/chat/completions"}
    assert "sk-secret" not in caplog.text + repr(options) + options.model_dump_json()


@pytest.mark.parametrize("name", BOTH)
async def test_a_server_that_is_not_well_is_told_at_the_start(name: str) -> None:
    async with loopback(lambda body: http("404 Not Found", "no such model")) as server:
        options = settings(reward_url=server.url, judge_url=server.url, judge_model="critic")
        with pytest.raises(ScorerError, match="answers 404: no such model"):
            async with opened(options, [name]):
                pass


async def test_only_what_is_needed_is_opened() -> None:
    async with opened(settings(reward_url=URL, judge_url=URL, judge_model="critic"), ["verifier"]) as beside:
        assert beside == Beside()


async def test_scores_are_calibrated_for_what_is_seen() -> None:
    facts = json.loads(known("reward_model", "reward_model:stage").model_dump_json())
    for stage in facts["calibration"]["reward_model:stage"].values():
        stage["mean"] = 100.0
    checkpoint = Checkpoint.model_validate(facts)
    found = {}
    views: tuple[Sees, ...] = ("answer", "stage")
    for sees in views:
        beside = Beside(FakeClassifier())
        scorer = make_scorers(FakeEngine(), checkpoint, ["reward_model"], beside, sees=sees)["reward_model"]
        found[sees] = (await scorer.score(PROBLEM, captions("Two."))).values[0]
    assert found["stage"] < -90 < found["answer"]


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIRES_JUDGE_API_KEY", "sk-secret")
    key = settings().judge_api_key
    assert key is not None
    assert key.get_secret_value() == "sk-secret"
