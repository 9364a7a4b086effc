"""The command as a whole, against a teacher on loopback."""

import argparse
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from PIL import Image

from swires.stages import Stage
from tests.training.data.annotation_teacher import (
    Answer,
    Asked,
    Manner,
    ScriptedTeacher,
    fails,
    says,
    staged,
    teaching,
    well,
)
from training.data.annotate import add_parser
from training.data.annotation import teacher
from training.data.annotation.output import replacing
from training.data.record import read_record

Lines: TypeAlias = list[dict[str, Any]]
Command: TypeAlias = Callable[..., None]


def record(number: int, *answers: str) -> dict[str, Any]:
    asked = [("human", "<image>\nHow many?")] + [("human", f"And in row {row}?") for row in range(1, len(answers))]
    said = [{"from": who, "value": text} for q, a in zip(asked, answers, strict=True) for who, text in (q, ("gpt", a))]
    return {"id": f"r{number}", "image": "dots/a.png", "conversations": said}


RECORDS = [
    record(1, "one"),
    record(2, "2", "half", "wrong"),
    record(3, "leak"),
    record(4, "late", "4"),
    record(5, "no"),
]


def mixed(asked: Asked) -> Answer:
    """Every kind of answer, by the known one: good, reworded, better the second time, wrong, with a leak, refusing."""
    if not asked.has_image:
        return well(asked)
    answers = {
        "2": says(staged("2, which is two")),
        "late": says(staged("late") if asked.times else "later"),
        "wrong": says(staged("right")),
        "leak": says(staged("leak", "As in the standard answer.")),
        "no": says("I'm sorry, I can't help with that."),
    }
    return answers.get(asked.known) or well(asked)


def lines(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "dots").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "dots" / "a.png")
    write(tmp_path, RECORDS)
    return tmp_path


@pytest.fixture(autouse=True)
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "FIRST_BACKOFF_S", 0.0)


def write(folder: Path, records: Sequence[dict[str, Any] | str]) -> None:
    texts = (one if isinstance(one, str) else json.dumps(one) for one in records)
    (folder / "in.jsonl").write_text("".join(text + "\n" for text in texts))


def options(folder: Path, url: str, *more: str) -> list[str]:
    paths = [str(folder / "in.jsonl"), "--images", str(folder / "images"), "--out", str(folder / "out.jsonl")]
    return ["annotate", *paths, "--base-url", url, "--model", "teacher", *more]


def run(folder: Path, url: str, *more: str) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(options(folder, url, *more))
    arguments.run(arguments)


def made(folder: Path) -> tuple[str, str]:
    return (folder / "out.jsonl").read_text(), (folder / "out.refused.jsonl").read_text()


def test_a_file_is_annotated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with teaching(mixed) as server:
        run(folder, server.url, "--price-in", "2", "--price-out", "10")
    kept = lines(folder / "out.jsonl")
    assert [(one["id"], len(one["conversations"])) for one in kept] == [("r1", 2), ("r2", 4), ("r4", 4)]
    assert {one["image"] for one in kept} == {"dots/a.png"}
    question, answer = kept[0]["conversations"]
    assert question == {"from": "human", "value": "How many?"}
    assert answer["from"] == "gpt"
    assert answer["value"].startswith("<SUMMARY>Count.</SUMMARY><CAPTION>Two things.</CAPTION><REASONING>")
    for line in (folder / "out.jsonl").read_bytes().splitlines():
        assert all(set(turn.stages) == set(Stage) for turn in read_record(line).turns)
    refused = [
        (one["id"], one["turn"], one["reason"], len(one["attempts"])) for one in lines(folder / "out.refused.jsonl")
    ]
    assert refused == [
        ("r2", 2, "wrong_answer", 2),
        ("r3", 0, "leaked_answer", 2),
        ("r5", 0, "refused", 2),
    ]
    # stages: 4 at the first attempt, 4 at the second; judged: 1 good, 2 wrong
    calls = 4 + 4 * 2 + 3
    assert len(server.paid) == len(lines(folder / "out.journal.jsonl")) == calls
    cost = calls * (100 * 2 + 10 * 10) / 1e6
    out = capsys.readouterr().out
    assert out == (
        "5 turns annotated; refused: leaked_answer 1, refused 1, wrong_answer 1\n"
        f"{calls} calls, {calls * 100:,} tokens in, {calls * 10} out, cost {cost:.2f}\n"
    )


def test_a_finished_file_needs_no_teacher(folder: Path) -> None:
    with teaching(mixed) as server:
        run(folder, server.url)
    before = made(folder)
    (folder / "out.jsonl").unlink()
    run(folder, server.url)
    assert made(folder) == before


def test_trouble_on_the_way_changes_nothing(folder: Path) -> None:
    """Whatever is asked is answered by some trouble before it is answered well."""
    troubles = itertools.cycle(
        [
            fails(429, Retry_After="0"),
            fails(503),
            Answer(b"not JSON"),
            Answer(says("x" * 100).body, sent=60),
            Answer(b"{}"),
        ]
    )
    met: set[tuple[str, int]] = set()

    def troubled(asked: Asked) -> Answer:
        if (asked.prompt, asked.times) in met:
            return mixed(asked)
        met.add((asked.prompt, asked.times))
        return next(troubles)

    with teaching(mixed) as server:
        run(folder, server.url)
    undisturbed, num_calls = made(folder), len(server.paid)
    for path in folder.glob("out.*"):
        path.unlink()
    with teaching(troubled) as server:
        run(folder, server.url, "--retries", "1")
    assert len(met) == len(server.paid) == num_calls
    assert made(folder) == undisturbed


def test_wherever_a_journal_ends_the_rest_is_asked(folder: Path) -> None:
    with teaching(mixed) as server:
        run(folder, server.url)
    whole, undisturbed = (folder / "out.journal.jsonl").read_bytes(), made(folder)
    prompts = len(server.paid)
    for end in range(0, len(whole), len(whole) // 9):
        (folder / "out.journal.jsonl").write_bytes(whole[:end])
        kept = whole[:end].count(b"\n")
        with teaching(after(mixed, kept_times(whole[:end]))) as server:
            run(folder, server.url)
        assert made(folder) == undisturbed
        assert len(server.paid) == prompts - kept


def kept_times(journal: bytes) -> int:
    """How often the turn that gets better the second time has been answered."""
    found = [json.loads(line) for line in journal.splitlines(keepends=True) if line.endswith(b"\n")]
    return sum(line["record"] == "r4" and line["turn"] == 0 for line in found)


def after(manner: Manner, times: int) -> Manner:
    """A teacher that has already answered so often."""
    return lambda asked: manner(Asked(asked.body, asked.headers, asked.times + times))


def start(folder: Path, url: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training", "data", *options(folder, url, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd())


def holding_after(number: int, server: ScriptedTeacher) -> Manner:
    """Answers so many requests, then lets the others wait."""
    return lambda asked: Answer(b"", held=True) if len(server.paid) == number else mixed(asked)


@pytest.mark.parametrize("number", [0, 1, 5, 11])
def test_a_killed_run_goes_on_and_pays_nothing_twice(folder: Path, number: int) -> None:
    with teaching(mixed) as server:
        run(folder, server.url)
    undisturbed, num_calls = made(folder), len(server.paid)
    for path in folder.glob("out.*"):
        path.unlink()
    with teaching(mixed) as server:
        server.manner = holding_after(number, server)
        with start(folder, server.url, "--concurrency", "2") as process:
            server.wait_until_held(2)  # both have finished all calls before
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "out.jsonl").exists()
        assert len(server.paid) == len(lines(folder / "out.journal.jsonl")) == number
        server.manner = mixed
        with start(folder, server.url, "--concurrency", "2") as process:
            _, errors = process.communicate()
        assert process.returncode == 0, errors
    keys = [line["key"] for line in lines(folder / "out.journal.jsonl")]
    assert len(set(keys)) == len(keys) == len(server.paid) == num_calls
    assert made(folder) == undisturbed


def test_a_signal_lets_paid_calls_end(folder: Path) -> None:
    with teaching(mixed) as server:
        server.manner = lambda asked: Answer(says(staged(f"It is {asked.known}")).body, held=True)  # to be judged
        with start(folder, server.url, "--concurrency", "2") as process:
            server.wait_until_held(2)
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            while "calls under way" not in process.stderr.readline():
                assert process.poll() is None
            server.release.set()
            _, errors = process.communicate()
    assert process.returncode == 1
    assert len(server.asked) == len(lines(folder / "out.journal.jsonl")) == 2
    assert errors.splitlines()[-1] == (
        f"annotate: stopped with 2 calls in {folder / 'out.journal.jsonl'}; the same command goes on from there"
    )
    assert not (folder / "out.jsonl").exists()


def test_the_same_turn_twice_is_paid_once(folder: Path) -> None:
    write(folder, [RECORDS[0], RECORDS[0]])
    with teaching(well) as server:
        run(folder, server.url)
    assert len(server.paid) == 1
    first, second = lines(folder / "out.jsonl")
    assert first == second


def test_bad_lines_and_pictures_are_told_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [
        "{",
        "[" * 100_000,
        "[]",
        json.dumps({**RECORDS[0], "image": 5}),
        json.dumps({**RECORDS[0], "conversations": RECORDS[0]["conversations"][:1]}),
        json.dumps({**RECORDS[0], "conversations": RECORDS[0]["conversations"][::-1]}),
        json.dumps(record(6, "one \ud83d")),
        json.dumps({**RECORDS[0], "image": "../in.jsonl"}),
    ]
    (folder / "images" / "text.png").write_text("no picture")
    write(folder, [*bad, json.dumps({**RECORDS[0], "image": "text.png"}), "", RECORDS[0]])
    with teaching(well) as server:
        run(folder, server.url)
    reasons = [(one["line"], one["reason"]) for one in lines(folder / "out.refused.jsonl")]
    assert reasons == [
        (1, "not_json"),
        (2, "not_json"),
        (3, "wrong_type"),
        (4, "wrong_type"),
        (5, "turns_not_alternating"),
        (6, "turns_not_alternating"),
        (7, "broken_unicode"),
        (8, "image_outside_folder"),
        (9, "image_unreadable"),
    ]
    assert len(lines(folder / "out.jsonl")) == len(server.paid) == 1
    told = "image_outside_folder 1, image_unreadable 1, not_json 2, turns_not_alternating 2, wrong_type 2\n"
    assert f"refused: broken_unicode 1, {told}" in capsys.readouterr().out


def test_what_has_no_answer_yet_is_asked_by_the_next_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, [record(1, "one"), record(2, "two")])
    with teaching(lambda asked: fails(500, "broken") if asked.known == "two" else well(asked)) as server:
        with pytest.raises(SystemExit) as caught:
            run(folder, server.url, "--retries", "1")
        assert caught.value.code == 1
        assert "1 turns have no answer yet" in capsys.readouterr().out
        (missing,) = lines(folder / "out.refused.jsonl")
        assert (missing["reason"], missing["detail"]) == ("unavailable", "the teacher answered 500: broken")
        server.manner = well
        run(folder, server.url)
    assert [one["id"] for one in lines(folder / "out.jsonl")] == ["r1", "r2"]
    assert len(server.paid) == 2
    assert made(folder)[1] == ""


def test_a_teacher_that_rejects_everything_is_not_asked_everything(folder: Path) -> None:
    write(folder, [record(number, "one") for number in range(200)])
    told = r"10 calls in a row have failed, the last: the teacher answered 400: no such field$"
    with teaching(lambda _: fails(400, "no such field")) as server, pytest.raises(SystemExit, match=told):
        run(folder, server.url, "--concurrency", "2")
    assert len(server.asked) <= 12


def test_some_that_fail_do_not_end_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, [record(number, "bad" if number % 2 else "one") for number in range(30)])
    with (
        teaching(lambda asked: fails(400) if asked.known == "bad" else well(asked)) as server,
        pytest.raises(SystemExit),
    ):
        run(folder, server.url, "--concurrency", "1")
    assert "15 turns annotated" in capsys.readouterr().out


def test_the_cost_is_estimated_from_the_first_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, [record(number, "one") for number in range(60)])
    with teaching(well) as server:
        run(folder, server.url, "--price-in", "1000", "--price-out", "0")
    estimate = "estimate for all 60 turns: 60 calls, 6,000 tokens in, 600 out, cost 6.00"
    assert capsys.readouterr().err.count(estimate) == 1


def test_an_output_that_is_not_whole_leaves_the_one_before(tmp_path: Path) -> None:
    (path := tmp_path / "out.jsonl").write_text("before")
    with replacing(path) as file:
        file.write("after")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_fields_of_every_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    with teaching(mixed) as server:
        run(folder, server.url, "--request", '{"max_tokens": 9}')
    assert {asked.body["max_tokens"] for asked in server.asked} == {9}
    assert {asked.body["model"] for asked in server.asked} == {"teacher"}
    assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer secret"}


def test_a_key_that_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "\N{SNOWMAN}")
    with pytest.raises(SystemExit, match="OPENAI_API_KEY"):
        run(folder, "http://127.0.0.1:1")


def test_another_model_is_asked_anew(folder: Path) -> None:
    with teaching(mixed) as server:
        run(folder, server.url)
        first = len(server.paid)
        run(folder, server.url, "--request", '{"temperature": 0}')
    assert len(server.paid) > first


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--base-url", "localhost:8000"], "--base-url localhost:8000 is no http"),
        (["--base-url", "http://127.0.0.1:1/v1"], "cannot reach http://127.0.0.1:1/v1"),
        (["--base-url", "http://[::1"], "--base-url http://[::1: "),
        (["--out", "/"], "--out / is a folder"),
        (["--images", "absent"], "--images absent is no folder"),
        (["--out", "absent/out.jsonl"], "there is no folder absent"),
        (["--price-in", "1"], "--price-in and --price-out go together"),
    ],
)
def test_a_failure_at_the_start_is_one_line(
    folder: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(folder, "http://127.0.0.1:1", *more)
    told = str(caught.value.code)
    assert told.startswith("annotate: ")
    assert message in told
    assert "\n" not in told
    assert "Traceback" not in capsys.readouterr().err


def test_inputs_that_are_none(folder: Path) -> None:
    (folder / "in.jsonl").write_text("\n")
    with pytest.raises(SystemExit, match=r"in\.jsonl holds no records"):
        run(folder, "http://127.0.0.1:1")
    (folder / "in.jsonl").rename(folder / "out.jsonl")
    with pytest.raises(SystemExit, match=r"cannot read .*in\.jsonl: No such file"):
        run(folder, "http://127.0.0.1:1")
    with pytest.raises(SystemExit, match="--out is the input itself"):
        run(folder, "http://127.0.0.1:1", "--out", str(folder / "in.jsonl"))


def test_a_wrong_key_is_one_line(folder: Path) -> None:
    with teaching(lambda _: fails(401, "Incorrect API key")) as server, pytest.raises(SystemExit) as caught:
        run(folder, server.url)
    assert caught.value.code == "annotate: the teacher answered 401: Incorrect API key"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--concurrency", "0", "0 is no whole number from 1 on"),
        ("--concurrency", "many", "many is no whole number from 1 on"),
        ("--retries", "1.5", "1.5 is no whole number from 0 on"),
        ("--price-in", "nan", "nan is no price"),
        ("--price-out", "cheap", "cheap is no price"),
        ("--request", "[]", "[] is no JSON object"),
        ("--request", "{", "{ is no JSON: "),
        ("--request", '{"stream": true}', "stream: not to be set here"),
    ],
)
def test_options_that_make_no_sense(
    folder: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(folder, "http://127.0.0.1:1", option, value)
    assert caught.value.code == 2
    assert f"error: argument {option}: {message}" in capsys.readouterr().err
