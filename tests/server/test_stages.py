"""Overrides for one stage: each has an effect at that stage alone, or is refused by name."""

from collections.abc import AsyncGenerator, Sequence

import httpx
import pytest

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from swires.protocols import Chunk, Scores
from swires.stages import Stage
from swires.types import Problem, Sampling, Trajectory
from tests.server.client import Json, ask, connect
from tests.server.conftest import Started


class Noting(FakeEngine):
    """Notes what it is asked for: the stage, how many samples, how they are sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Stage, int, Sampling]] = []

    async def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        self.asked.append((stage, n, sampling))
        async for chunk in super().generate(problem, prefix, stage=stage, n=n, sampling=sampling, live=live):
            yield chunk


class Constant(FakeScorer):
    """Gives every candidate the same score."""

    def __init__(self, value: float, *, ranks: bool = False) -> None:
        self._value = value
        self.ranks = self.compares = ranks

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        return Scores((self._value,) * len(trajectories))


async def asked_for(started: Started, **swires: object) -> list[tuple[Stage, int, Sampling]]:
    """What the engine is asked for by one search."""
    async with started(engine := Noting()) as app, connect(app) as client:
        engine.asked.clear()
        assert (await ask(client, swires={"max_retraces": 0, **swires})).status_code == 200
    return engine.asked


async def test_a_stage_is_sampled_as_its_override_says(started: Started) -> None:
    stages = {"CAPTION": {"temperature": 1.5, "max_tokens": 77}, "CONCLUSION": {"temperature": 0}}
    asked = await asked_for(started, stages=stages)
    found = {(stage, sampling.temperature, sampling.max_tokens) for stage, _, sampling in asked}
    usual = (0.6, 2048)
    assert found == {
        (Stage.SUMMARY, *usual),
        (Stage.CAPTION, 1.5, 77),
        (Stage.REASONING, *usual),
        (Stage.CONCLUSION, 0, 2048),
    }


@pytest.mark.parametrize(
    ("policy", "stages", "samples"),
    [
        ("swires", {"CAPTION": 5, "REASONING": 3}, [(1, 1), (1, 5), (2, 3), (3, 1)]),
        ("stage_beam", {"SUMMARY": 2, "REASONING": 6, "CONCLUSION": 2}, [(1, 2), (2, 2), (2, 3), (2, 1)]),
    ],
)
async def test_a_stage_has_as_many_candidates_as_its_override_says(
    started: Started, policy: str, stages: dict[str, int], samples: list[tuple[int, int]]
) -> None:
    overrides = {stage: {"candidates": candidates} for stage, candidates in stages.items()}
    more = {} if policy == "swires" else {"max_retraces": None}
    asked = await asked_for(started, policy=policy, stages=overrides, **more)
    by_stage = [[n for at, n, _ in asked if at is stage] for stage in Stage]
    assert [(len(each), each[0]) for each in by_stage] == samples
    assert all(len(set(each)) == 1 for each in by_stage)


async def test_an_override_goes_over_the_number_for_the_search(client: httpx.AsyncClient) -> None:
    numbers = {"accept_z": -100.0, "max_retraces": 1}
    for accept_z, retraces in ((100.0, 1), (-100.0, 0)):
        swires = {**numbers, "stages": {"REASONING": {"accept_z": accept_z}}}
        assert (await ask(client, swires=swires)).json()["swires"]["retraces"] == retraces


async def served(swires: Json) -> httpx.Response:
    scorers = {"one": Constant(1.0), "two": Constant(2.0), "ranker": Constant(3.0, ranks=True)}
    async with FakeEngine() as engine:
        app = create_app(engine, scorers, Settings.model_validate({"model": "demo"}))
        async with connect(app) as client:
            return await ask(client, swires={"trace": True, **swires})


async def test_a_stage_has_a_scorer_of_its_own() -> None:
    stages = {"CAPTION": {"scorer": "two"}, "CONCLUSION": {"scorer": "ranker"}}
    told = (await served({"stages": stages})).json()["swires"]
    assert {node["stage"]: node["score"] for node in told["trace"]} == {
        "SUMMARY": None, "CAPTION": 2.0, "REASONING": 1.0, "CONCLUSION": 3.0,
    }  # fmt: skip
    assert told["scorer"] == "one"


@pytest.mark.parametrize(
    ("swires", "param"),
    [
        ({"scorer": "ranker", "stages": {"REASONING": {"scorer": "two"}}}, None),
        ({"policy": "stage_beam", "stages": {"REASONING": {"scorer": "ranker"}}}, None),
        ({"scorer": "ranker", "stages": {"CAPTION": {"scorer": "two"}}}, "swires.scorer"),
        ({"stages": {"REASONING": {"scorer": "ranker"}}}, "swires.stages.REASONING.scorer"),
    ],
)
async def test_a_scorer_that_only_ranks_is_refused_where_a_threshold_is(swires: Json, param: str | None) -> None:
    reply = await served(swires)
    if param is None:
        assert reply.status_code == 200
        return
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert reply.json()["error"]["message"].startswith(f"{param}: ranker only ranks")


@pytest.mark.parametrize(
    ("swires", "param"),
    [
        ({"stages": {"STEP": {}}}, "STEP"),
        ({"stages": []}, ""),
        ({"stages": {"CAPTION": {"keep": 1}}}, "CAPTION.keep"),
        ({"stages": {"CAPTION": {"temperature": 3}}}, "CAPTION.temperature"),
        ({"stages": {"CAPTION": {"max_tokens": 0}}}, "CAPTION.max_tokens"),
        ({"stages": {"CAPTION": {"scorer": "judge"}}}, "CAPTION.scorer"),
        ({"stages": {"CAPTION": {"accept_z": 1}}}, "CAPTION.accept_z"),
        ({"stages": {"CAPTION": {"candidates": 0}}}, "CAPTION.candidates"),
        ({"stages": {"CAPTION": {"candidates": 1000}}}, "CAPTION.candidates"),
        ({"stages": {"SUMMARY": {"candidates": 2}}}, "SUMMARY.candidates"),
        ({"stages": {"SUMMARY": {"scorer": "other"}}}, "SUMMARY.scorer"),
        ({"stages": {"CONCLUSION": {"candidates": 2}}}, "CONCLUSION.candidates"),
        ({"policy": "stage_beam", "stages": {"REASONING": {"accept_z": 1}}}, "REASONING.accept_z"),
        ({"policy": "stage_beam", "stages": {"REASONING": {"candidates": 3}}}, "REASONING.candidates"),
        ({"policy": "best_of_n", "stages": {"CONCLUSION": {"temperature": 1}}}, "CONCLUSION"),
        ({"policy": "sentence_beam", "stages": {"CAPTION": {"max_tokens": 9}}}, "CAPTION"),
        ({"policy": "greedy", "stages": {"CONCLUSION": {}}}, "CONCLUSION"),
    ],
)
async def test_what_has_no_effect_is_refused_by_name(client: httpx.AsyncClient, swires: Json, param: str) -> None:
    reply = await ask(client, swires=swires)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, f"swires.stages.{param}".rstrip("."))
    assert error["message"].startswith(f"{error['param']}: ")


async def test_no_overrides_are_none(client: httpx.AsyncClient) -> None:
    no_overrides: tuple[Json | None, ...] = (None, {}, {"CAPTION": {}})
    for stages in no_overrides:
        assert (await ask(client, swires={"stages": stages})).status_code == 200
