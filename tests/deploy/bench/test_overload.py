"""The measure of overload: against a real server on an engine that takes its time, and of answers that are made up."""

import asyncio
import json
from pathlib import Path

import pytest

from deploy.bench import overload
from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.running import running

SMALL = ("--clients", "3", "--warm-up", "0.2", "--seconds", "1.5", "--rounds", "1")


async def step() -> None:
    await asyncio.sleep(0.002)


async def test_a_load_over_the_peak_is_refused_in_part(tmp_path: Path) -> None:
    settings = Settings(model="demo", max_candidates=4, max_waiting=2)
    async with FakeEngine(step=step) as engine, running(create_app(engine, {"fake": FakeScorer()}, settings)) as server:
        options = overload.parsed(["--url", server.url, "--out", str(tmp_path / "told.json"), *SMALL])
        report = await overload.measured(options)
    (told,) = report["rounds"]
    assert (told["peak"]["refused_per_s"], told["plain"]["stopped_by"].get("load")) == (0, None)
    assert told["plain"]["refused_per_s"] > told["peak"]["searches_per_s"]
    assert report["medians"]["plain"]["of_peak"] == pytest.approx(
        told["plain"]["searches_per_s"] / told["peak"]["searches_per_s"], abs=0.001
    )
    assert report["medians"]["plain"]["refusal_ms_p50"] > 0
    assert len(overload.table(report).splitlines()) == 1 + len(report["medians"]["plain"])


def answered(status: int, content: str = "3") -> overload.Answered:
    swires = {"generations": 12, "stopped_by": "load", "seconds": 2.0}
    told = {"choices": [{"message": {"content": content}}], "usage": {"completion_tokens": 50}, "swires": swires}
    return overload.Answered(1.0, 0.25, status, json.dumps(told).encode(), "3")


def test_answers_and_refusals_are_told_apart() -> None:
    told = overload.summary([answered(200), answered(200, "4"), answered(503), answered(503)], seconds=4)
    assert (told["searches_per_s"], told["tokens_per_s"], told["refused_per_s"]) == (0.5, 25, 0.5)
    assert (told["generations"], told["stopped_by"], told["right"]) == (12, {"load": 2}, 0.5)
    assert (told["refusal_ms"]["p99"], told["answer_s"]["p50"]) == (250, 0.25)


@pytest.mark.parametrize("statuses", [(200, 500), (503,), ()])
def test_a_failure_or_no_answer_at_all_ends_the_measurement(statuses: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        overload.summary([answered(status) for status in statuses], seconds=4)
