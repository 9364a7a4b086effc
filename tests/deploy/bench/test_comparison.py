"""The comparison's arithmetic: percentiles, ratios, bars, what a run that was cut off goes on with."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bench.__main__ import main, parsed, remaining
from deploy.bench.bars import BARS, FIGURES, Bar, ratios
from deploy.bench.closed_loop import Answered, closed_loop
from deploy.bench.measure import Cell, Kept
from deploy.bench.processes import BenchError, PromptTokens, child, peak_memory
from deploy.bench.questions import Question, questions
from deploy.bench.report import percentiles, report
from deploy.bench.rows import ROWS, chosen
from deploy.bench.schedule import BALANCED, conclusion, follow
from server.presets import PRESETS
from swires.policies import Swires
from swires.stages import Stage
from swires.types import Candidate, Expand, Trajectory

CELL = Cell("ours-http", 4, 1, 2.0, 400, 48, 3, (0.1, 0.3, 0.2, 0.2), (1.0, 2.0, 1.5, 1.5), 30.0, 10.0, 900.0)
OF = {"machine": "m", "commit": "c", "lengths": "sampled", "quick": False}


def test_a_cell_tells_rates() -> None:
    assert (CELL.searches_per_s, CELL.tokens_per_s, CELL.right_per_s) == (2.0, 200.0, 1.5)


def test_percentiles_lie_between_neighbours() -> None:
    assert percentiles("x", [float(each) for each in range(101)]) == {"x_p50_s": 50, "x_p95_s": 95, "x_p99_s": 99}
    assert percentiles("x", [3.0]) == {"x_p50_s": 3, "x_p95_s": 3, "x_p99_s": 3}


def test_a_ratio_is_the_median_of_rounds_that_have_both() -> None:
    bar = Bar("searches/s", "ours-http", "naive-candidate", 4, 1.5)
    ours = [replace(CELL, round=each) for each in (1, 2, 3, 4)]
    others = [
        replace(CELL, row="naive-candidate", round=number, seconds=seconds)
        for number, seconds in ((1, 2.0), (2, 4.0), (3, 10.0))
    ]
    (ratio,) = ratios([*ours, *others], [bar])
    assert (ratio.median, ratio.least, ratio.most, ratio.met) == (2.0, 1.0, 5.0, True)


def test_a_bar_is_met_on_its_own_side() -> None:
    least, most = Bar("searches/s", "a", "b", 1, 1.0), Bar("answer", "a", "b", 1, 1.0, at_most=True)
    assert [least.met_by(0.9), least.met_by(1.0), most.met_by(1.0), most.met_by(1.1)] == [False, True, True, False]


def test_bars_are_of_rows_and_figures_that_there_are() -> None:
    assert {name for bar in BARS for name in (bar.row, bar.other)} <= set(ROWS)
    assert {bar.figure for bar in BARS} == set(FIGURES)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    options = parsed(["--rows", "ours-http", "naive-stage", "--clients", "4", "--rounds", "2"])
    rows = chosen(options.rows, fixed=False)
    first = [turn.key for turn in remaining(rows, options, [])]
    assert first == [("ours-http", 4, 1), ("naive-stage", 4, 1), ("naive-stage", 4, 2), ("ours-http", 4, 2)]
    kept = Kept(tmp_path / "made" / "cells.jsonl")
    assert kept.begin(OF) == []
    kept.add(CELL)
    assert kept.begin(OF) == [CELL]
    assert [turn.key for turn in remaining(rows, options, kept.begin(OF))] == first[1:]
    assert kept.begin({**OF, "commit": "another"}) == []


def test_every_row_gets_the_same_scenes_and_pictures_of_its_own() -> None:
    one, other = questions(2, seed=1, mark=0), questions(2, seed=1, mark=1)
    assert [(each.key, each.text, each.expected) for each in one] == [
        (each.key, each.text, each.expected) for each in other
    ]
    assert not {each.image for each in one} & {each.image for each in other}


def test_a_run_is_reported_as_data_table_and_picture(tmp_path: Path) -> None:
    report(tmp_path, OF, [CELL, replace(CELL, row="naive-candidate", computed_tokens=None, cached_tokens=None)])
    told = json.loads((tmp_path / "results.json").read_text())
    assert {each["row"]: each["searches_per_s"] for each in told["rows"]} == {"ours-http": 2.0, "naive-candidate": 2.0}
    assert [each["computed_prompt_tokens"] for each in told["rows"]] == [2.5, None]
    assert "| ours-http | 4 | 2 | 200 |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_row_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--rows", "sglang", "--kept", str(tmp_path)]) == 1
    assert "no such row: sglang" in capsys.readouterr().err


async def test_so_many_clients_ask_at_once_and_answers_keep_their_order() -> None:
    asking, most = 0, 0

    async def ask(question: Question) -> Answered:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1
        return Answered(question.key, 1, 1, 0.0, 0.0)

    asked = questions(5, seed=2, mark=0)
    load = await closed_loop(ask, asked, 3)
    assert most == 3
    assert [each.content for each in load.answers] == [each.key for each in asked]


async def test_a_child_answers_lines_and_tells_its_failures() -> None:
    code = (
        "import asyncio; from deploy.bench.child import answer_lines, claimed_output\n"
        "async def answer(request): return {'metrics': '', 'twice': 2 * request.get('number', 0)} \n"
        "out = claimed_output(); print('not an answer'); asyncio.run(answer_lines(answer, out))"
    )
    async with child([sys.executable, "-c", code]) as process, peak_memory([process.pid]) as peak:
        assert [each["twice"] for each in await asyncio.gather(*(process.ask({"number": n}) for n in (1, 2)))] == [2, 4]
        with pytest.raises(BenchError, match="TypeError"):
            await process.ask({"number": None})
    assert peak[0] > 1


async def test_the_schedule_by_hand_is_the_server_s() -> None:
    assert Swires(**PRESETS["balanced"]["swires"]) == BALANCED  # type: ignore[arg-type]
    asked = list[Expand]()

    async def grow(expand: Expand) -> tuple[Trajectory, ...]:
        asked.append(expand)
        text = f"{expand.stage.opening}x{expand.stage.closing}"
        made = [Candidate(0, expand.stage, text, (), "stop") for _ in range(expand.samples)]
        return tuple(parent.then(each, 9.0) for parent in expand.parents for each in made)

    answer, generations = await follow(BALANCED, grow)
    assert conclusion(answer.text) == "x"
    assert generations == sum(each.num_candidates for each in asked)
    assert [each.stage for each in asked] == list(Stage)


def test_prompt_tokens_are_read_from_metrics() -> None:
    lines = (
        "# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 50\n"
        "# TYPE vllm:prompt_tokens_cached_total counter\nvllm:prompt_tokens_cached_total 20\n"
    )
    assert PromptTokens.read(lines).since(PromptTokens(5, 10)) == PromptTokens(15, 20)
