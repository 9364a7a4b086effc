"""Sampling from a whole server on loopback."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from server.engine.fake import FakeEngine
from swires.stages import Stage
from tests.server.client import Held, image_url
from tests.training.conftest import Serving
from training.verifier.errors import BadFile, ServerFailed
from training.verifier.jsonl import read
from training.verifier.problem import Problem, open_picture, read_problems
from training.verifier.sample import Plan, sample
from training.verifier.tree import Tree

PROBLEMS = [Problem(image=image_url(), question=f"How many, of {number}?", answer="3") for number in range(4)]
PLAN = Plan(trees=2, captions=3, reasonings=2)
COUNTS = {Stage.SUMMARY: 1, Stage.CAPTION: 3, Stage.REASONING: 6, Stage.CONCLUSION: 6}


async def sampled(url: str, record: Path, problems: list[Problem] = PROBLEMS, tries: int = 1) -> list[Tree]:
    await sample(url, problems, PLAN, concurrency=2, tries=tries, record=record)
    return list(read(record, Tree))


async def test_each_stage_is_rolled_out(serving: Serving, tmp_path: Path) -> None:
    async with serving() as server:
        trees = await sampled(server.url, tmp_path / "trees")
    assert {(tree.problem, tree.number) for tree in trees} == {(one, number) for one in PROBLEMS for number in (0, 1)}
    for tree in trees:
        assert Counter(each.stage for each in tree.candidates) == COUNTS
        children = Counter(each.parent for each in tree.candidates)
        assert [children[each.id] for each in tree.candidates] == [3] + [2] * 3 + [1] * 6 + [0] * 6
        assert all(each.text.endswith(each.stage.closing) for each in tree.candidates)


async def test_trees_of_a_problem_differ_and_come_out_the_same_again(serving: Serving, tmp_path: Path) -> None:
    async with serving() as server:
        first = await sampled(server.url, tmp_path / "first")
        again = await sampled(server.url, tmp_path / "again", PROBLEMS[::-1])
    assert first[0].candidates != first[1].candidates
    assert {tree.model_dump_json() for tree in first} == {tree.model_dump_json() for tree in again}


async def test_a_run_that_was_killed_goes_on(serving: Serving, tmp_path: Path) -> None:
    async with serving() as server:
        whole = await sampled(server.url, tmp_path / "whole")
    record = tmp_path / "record"
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:3]) + lines[3][:40])  # a kill has torn the last line
    hold = Held(free=1)
    async with serving(FakeEngine(step=hold)) as server:
        hold.arm()
        cut = asyncio.create_task(sampled(server.url, record))
        await hold.reached.wait()
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
        hold.let_go.set()
        assert record.read_bytes() == b"".join(lines[:3])
        assert {tree.model_dump_json() for tree in await sampled(server.url, record)} == {
            tree.model_dump_json() for tree in whole
        }
        size = record.stat().st_size
        await sampled(server.url, record)
    assert record.stat().st_size == size


async def test_a_refusal_is_told_in_one_line(serving: Serving, tmp_path: Path) -> None:
    async with serving(max_generations=8) as server:
        with pytest.raises(ServerFailed, match=r"400.*takes at least 16 generations, the limit is 8") as failed:
            await sampled(server.url, tmp_path / "trees")
    assert "\n" not in str(failed.value)


async def test_a_busy_server_is_asked_again(serving: Serving, tmp_path: Path) -> None:
    hold = Held()
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        hold.let_go.set()
        await asyncio.sleep(0)

    async with serving(FakeEngine(step=hold), max_candidates=8, max_waiting=0) as server:
        hold.arm()
        record = tmp_path / "trees"
        await sample(server.url, PROBLEMS, PLAN, concurrency=2, tries=10_000, record=record, wait=wait)
    assert len(list(read(record, Tree))) == 8
    assert min(waited) >= 1  # as the server asks


async def test_a_server_that_is_not_there_is_told(tmp_path: Path, unused_tcp_port: int) -> None:
    with pytest.raises(ServerFailed, match=f"http://127.0.0.1:{unused_tcp_port}"):
        await sampled(f"http://127.0.0.1:{unused_tcp_port}", tmp_path / "trees")


def test_problems_of_a_file_and_of_a_task(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"image": "a.png", "question": "What?", "answer": "b", "id": 7}\n' * 2)
    problems = read_problems(str(file), 1, seed=0)
    assert problems == [Problem(image=str(tmp_path.resolve() / "a.png"), question="What?", answer="b")]
    scenes = read_problems("scenes", 3, seed=5)
    assert [open_picture(one.image).size for one in scenes] == [(64, 64)] * 3
    assert scenes == read_problems("scenes", 5, seed=5)[:3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"image": "a", "question": "b"}', "line 1: answer"),
        ("{", "line 1: .*Invalid JSON"),
        ("", "holds no problem"),
    ],
)
def test_a_file_that_holds_no_problems_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(text)
    with pytest.raises(BadFile, match=told):
        read_problems(str(file), 0, seed=0)
