"""A small soak of a server in a process of its own: nothing is left. Of memory, it is too short to tell."""

import json
import socket
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from deploy.bench import soak
from deploy.bench.soak_load import Load
from deploy.bench.soak_report import judged, write
from deploy.bench.soak_watch import Rest


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_nothing_is_left_of_searches_bad_inputs_hang_ups_and_bursts(port: int) -> None:
    options = soak.parsed(["fake", "--searches", "150", "--rounds", "2", "--port", str(port)])
    report = await soak.measured(options)
    assert report["unlike"] == []
    assert set(report["leaked"].values()) == {0}
    assert report["clean"]
    assert min(report["outcomes"][name] for name in ("answered", "streamed", "refused", "wrong_as_told", "hung_up")) > 5
    assert report["outcomes"]["answered"] + report["outcomes"]["streamed"] >= 150


def rest(number: int, mib: float, *, tasks: int = 4, num_files: int = 9, searches: int = 0) -> Rest:
    return Rest(
        100 * number,
        float(number),
        {"server": mib},
        {"server": 3},
        num_files,
        {"serve": tasks},
        {"searches": searches},
        {},
    )


def told(*rests: Rest, **outcomes: int) -> soak.Json:
    load = Load(
        "", 0, (), Random(0), may_fail=False, outcomes=Counter({"answered": rests[-1].num_answered, **outcomes})
    )
    return judged(rests, [(100, {"server": 120.0})], warm_up=3, load=load)


FLAT = [rest(number, mib) for number, mib in enumerate((50, 100, 100, 100, 101, 102, 101, 102))]


def test_memory_is_flat_from_the_warm_up_on() -> None:
    report = told(*FLAT)
    assert report["clean"]
    assert report["flat"]
    assert report["memory"]["server"] == {
        "before": 50, "warm": 100, "end": 101.7, "peak": 120, "growth_percent": 1.67, "mib_per_1000_searches": 4.0,
    }  # fmt: skip
    grown = told(*FLAT[:4], *(rest(number, 100 + 2 * number) for number in range(4, 8)))
    assert grown["clean"]
    assert not grown["flat"]


@pytest.mark.parametrize("left", [{"tasks": 5}, {"num_files": 10}, {"searches": 1}])
def test_what_is_left_is_told(left: dict[str, int]) -> None:
    report = told(*FLAT, rest(8, 101, **left))
    assert not report["clean"]
    assert sum(report["leaked"].values()) == 1


def test_an_answer_that_should_not_have_been_is_told() -> None:
    assert not told(*FLAT, unlike=1)["clean"]


def test_a_run_replaces_what_was_told_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    report = {"asked": {"warm_up": 3}, "load_average": [1.0, 1.0, 1.0], **told(*FLAT)}
    for kind in ("fake", "vllm", "vllm"):
        write(path, kind, report)
    assert set(json.loads(path.read_text())) == {"fake", "vllm"}
    assert path.with_suffix(".md").read_text().count("| server | 50 | 100 | 102 | 120 | +1.7 % | +4.0 |") == 2
    assert path.with_suffix(".png").stat().st_size > 1000
