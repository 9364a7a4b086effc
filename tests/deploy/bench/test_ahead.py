"""The measure of stages begun early: on a fake engine, and of cells that are made up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bench import ahead
from deploy.bench.ahead import AHEAD, IN_TURN, Cell
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer

CELL = Cell("swires", 4, 1, IN_TURN, 4.0, 0.5, 2.0, 0.9, tokens=1000, undone_tokens=0)
AFTER = replace(CELL, arm=AHEAD, searches_per_s=5.0, answer_p50_s=0.5, answer_p95_s=1.0, undone_tokens=50)


async def test_arms_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "WARM_UP", 4)
    monkeypatch.setattr(ahead, "SEARCHES", {4: 4})
    options = ahead.parsed(["--policies", "swires", "--rounds", "2"])
    options.clients = [4]
    async with FakeEngine() as engine:
        cells = await ahead.measured(engine, FakeScorer(), options)
    assert [(cell.round, cell.arm) for cell in cells] == [(1, IN_TURN), (1, AHEAD), (2, AHEAD), (2, IN_TURN)]
    assert all(cell.tokens > 0 and cell.searches_per_s > 0 for cell in cells)
    assert cells[0].undone_tokens == cells[3].undone_tokens == 0


def test_ratios_are_of_a_round() -> None:
    cells = [CELL, AFTER, replace(CELL, round=2, searches_per_s=8.0), replace(AFTER, round=2, searches_per_s=9.0)]
    row = ahead.table(cells).splitlines()[-1]
    assert row == (
        "| swires | 4 | 6, 7 | **1.19** (1.12 to 1.25) | 0.5, 0.5 | **1.00** (1.00 to 1.00) "
        "| 2, 1 | **0.50** (0.50 to 0.50) | 0.90, 0.90 | 5.0% |"
    )


def test_the_report(tmp_path: Path) -> None:
    ahead.report(tmp_path, [CELL, AFTER])
    told = json.loads((tmp_path / "ahead.json").read_text())
    assert [Cell(**each) for each in told["cells"]] == [CELL, AFTER]
    assert ahead.table([CELL, AFTER]) in (tmp_path / "ahead.md").read_text()
