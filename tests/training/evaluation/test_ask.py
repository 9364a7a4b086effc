"""Asking a whole server on loopback."""

from pathlib import Path

import pytest

from tests.training.conftest import Serving
from training.evaluation.answers import Answer, Arm, Record
from training.evaluation.ask import EvaluationError, ask
from training.evaluation.problems import problems

ARMS = [Arm.parse("greedy"), Arm.parse("swires:max_retraces=1")]


async def asked(url: str, record: Path, *, repeats: int = 1, trace: bool = False) -> list[Answer]:
    return await ask(url, problems("scenes", 3, 1), ARMS, Record(record), seed=1, repeats=repeats, trace=trace)


async def test_every_arm_is_asked_every_problem(serving: Serving, tmp_path: Path) -> None:
    async with serving() as server:
        answers = await asked(server.url, tmp_path / "record", repeats=2, trace=True)
    assert {(one.arm, one.problem, one.repeat) for one in answers} == {
        (arm.name, problem, repeat) for arm in ARMS for problem in range(3) for repeat in range(2)
    }
    for one in answers:
        assert len(one.trace) == one.generations
        assert one.tokens == sum(node["tokens"] for node in one.trace)
    searched = {one.repeat: one.trace for one in answers if (one.arm, one.problem) == (ARMS[1].name, 0)}
    assert searched[0] != searched[1]


async def test_what_is_recorded_is_not_asked_again(serving: Serving, tmp_path: Path) -> None:
    async with serving() as server:
        first = await asked(server.url, tmp_path / "record")
        lines = (tmp_path / "record").read_text()
        more = await asked(server.url, tmp_path / "record", repeats=2)
    assert (tmp_path / "record").read_text().startswith(lines)
    assert len(more) == 2 * len(first)
    assert [one for one in more if one.repeat == 0] == first


async def test_a_refusal_is_told_with_its_arm(serving: Serving, tmp_path: Path) -> None:
    async with serving(max_generations=4) as server:
        with pytest.raises(EvaluationError, match="swires:max_retraces=1: the server answered 400"):
            await asked(server.url, tmp_path / "record")


async def test_a_server_that_is_not_there_is_told(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(EvaluationError, match=url):
        await asked(url, tmp_path / "record")
