"""The measure of the server's own cost: its engine tells the truth of tokens, a small run reports all figures."""

import json
import socket
from contextlib import aclosing
from pathlib import Path

import pytest

from deploy.bench import shell
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

EXTRA = 30


async def written(engine: shell.RehearsedEngine) -> list[Chunk]:
    made = engine.generate(Problem("p", 1), (), stage=Stage.SUMMARY, n=2, sampling=Sampling(seed=1))
    async with aclosing(made) as chunks:
        return [chunk async for chunk in chunks]


async def test_what_was_rehearsed_is_repeated_and_counted() -> None:
    engine = shell.RehearsedEngine(EXTRA)
    first = await written(engine)
    assert await written(engine) == first
    assert engine.num_tokens == 2 * sum(len(chunk.token_ids) for chunk in first)


async def test_each_candidate_is_longer_by_what_was_asked() -> None:
    plain = sum(len(chunk.token_ids) for chunk in await written(shell.RehearsedEngine(0)))
    longer = sum(len(chunk.token_ids) for chunk in await written(shell.RehearsedEngine(EXTRA)))
    assert longer == plain + 2 * EXTRA


def test_a_run_reports_costs_lag_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "EXTRA_TOKENS", (0, 50))
    monkeypatch.setattr(shell, "WAITING", 20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "shell.json"
    assert shell.main(["--searches", "70", "--rounds", "1", "--port", str(port), "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    for kind in shell.KINDS:
        (few, least_ms), (many, most_ms) = report[kind]["tokens_and_ms"]
        assert few < many
        assert least_ms > 0
        assert most_ms > 0
    assert report["lag_ms"]["p99"] >= report["lag_ms"]["p50"]
    assert report["waiting"]["searches"] == 20
