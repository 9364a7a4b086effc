"""A scorer that fails in any way costs the search its scores, never its answer."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from server.app import create_app
from server.checkpoint import Checkpoint
from server.engine.fake import FakeEngine
from server.scorer.judge import Judge
from server.scorer.offered import Beside, make_scorers
from server.scorer.remote import connected
from server.scorer.reward_model import RemoteClassifier
from server.settings import Settings
from swires.stages import Stage
from tests.scorer.chat_judge import longer, replying
from tests.scorer.loopback import FAULTS, Answer, http, loopback, ok
from tests.server.client import Json, ask, connect

CALIBRATED = {"reward_model": {stage.name: {"mean": 0.0, "std": 1.0} for stage in Stage}}
POLICIES = {"reward_model": "swires", "judge": "best_of_n"}


@pytest.fixture(params=POLICIES)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


async def answered(name: str, url: str, *, scorer_timeout_s: float = 30, **swires: object) -> Json:
    known = Checkpoint.model_validate({"calibration": CALIBRATED})
    async with FakeEngine() as engine, connected(name, url, timeout_s=30) as remote:
        beside = Beside(RemoteClassifier(remote), Judge(remote, "critic"))
        scorers = make_scorers(engine, known, [name], beside, timeout_s=scorer_timeout_s)
        settings = Settings.model_validate({"model": "demo"})
        async with connect(create_app(engine, scorers, settings)) as client:
            reply = await ask(client, swires={"policy": POLICIES[name], **swires})
    assert reply.status_code == 200, reply.text
    answer: Json = reply.json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    return answer


@asynccontextmanager
async def at(answer: Answer) -> AsyncGenerator[str, None]:
    async with loopback(answer) as server:
        yield server.url


async def test_a_scorer_that_is_well(name: str) -> None:
    replies: dict[str, Answer] = {
        "judge": replying(longer),
        "reward_model": lambda body: ok({"data": [{"probs": [len(str(body))]}]}),
    }
    async with at(replies[name]) as url:
        told = (await answered(name, url))["swires"]
    assert (told["scorer"], told["scorer_degraded"]) == (name, False)
    assert told["score"] > 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_survived_and_told(name: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    reply, _ = FAULTS[fault]
    async with at(lambda body: reply) as url:
        told = (await answered(name, url, scorer_timeout_s=0.05 if reply is None else 30))["swires"]
    assert told["scorer_degraded"] is True
    assert told["score"] == 0  # every candidate counts as average
    assert f"the scorer {name} failed: " in caplog.text


async def test_nobody_there_is_survived_and_told(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert (await answered(name, url))["swires"]["scorer_degraded"] is True


async def test_a_stall_ends_with_the_search_s_own_time(name: str) -> None:
    async with at(lambda body: None) as url:
        told = (await answered(name, url, timeout_s=0.5))["swires"]
    assert told["scorer_degraded"] is True


async def test_one_that_fails_half_way(name: str) -> None:
    left = 2

    def failing(body: Json) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            return http("503 Service Unavailable", "")
        return ok({"data": [{"probs": [1.0]}], "choices": [{"message": {"content": "Verdict: 1"}}]})

    async with at(failing) as url:
        assert (await answered(name, url))["swires"]["scorer_degraded"] is True
