import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.suites import run
from deploy.suites.run import JUDGED, SUITES, SuiteError

ROOT = Path(__file__).parents[3]
KEY = {"OPENAI_API_KEY": "any"}


def write_run(out: Path, *answers: object) -> None:
    """What lmms-eval leaves, with what some tasks write beside it."""
    folder = out / "demo__greedy"
    folder.mkdir(parents=True)
    scores = {"alias": "ai2d", "exact_match,none": 2 / 3, "exact_match_stderr,none": 0.1, "submission,none": None}
    (folder / "20260101_120000_results.json").write_text(json.dumps({"results": {"ai2d": scores}}))
    lines = [json.dumps({"doc_id": number, "filtered_resps": answer}) for number, answer in enumerate(answers)]
    (folder / "20260101_120000_samples_ai2d.jsonl").write_text("\n".join(lines))
    (out / "submissions").mkdir()
    (out / "submissions" / "mmbench_en_dev_static_results.json").write_text("{}")


def test_scores_are_reported(tmp_path: Path) -> None:
    write_run(tmp_path, "A", ["B"], "")
    assert list(run.report(tmp_path)) == ["ai2d exact_match: 0.6667", f"3 answers, in {tmp_path}"]


@pytest.mark.parametrize("instead", ["[LMMS_EVAL_REQUEST_FAILED after 5 retries] full", "[LMMS_EVAL_BUDGET_EXCEEDED]"])
def test_a_request_without_an_answer_is_no_wrong_answer(tmp_path: Path, instead: str) -> None:
    write_run(tmp_path, "A", [instead], "C")
    with pytest.raises(SuiteError, match="1 of 3 requests were not answered"):
        list(run.report(tmp_path))


def test_what_the_answer_was_before_a_filter_tells_whether_it_came(tmp_path: Path) -> None:
    write_run(tmp_path)
    (samples,) = tmp_path.rglob("*.jsonl")
    samples.write_text(json.dumps({"resps": ["[LMMS_EVAL_REQUEST_FAILED after 5 retries]"], "filtered_resps": "5"}))
    with pytest.raises(SuiteError, match="1 of 1 requests"):
        list(run.report(tmp_path))


def test_no_scores(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="wrote no scores"):
        list(run.report(tmp_path))


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_with_a_judge_needs_its_key(tmp_path: Path, suite: str) -> None:
    run.check(suite, Path(sys.executable), tmp_path / "new", KEY)
    if suite in JUDGED:
        with pytest.raises(SuiteError, match="OPENAI_API_KEY"):
            run.check(suite, Path(sys.executable), tmp_path / "new", {})
    else:
        run.check(suite, Path(sys.executable), tmp_path / "new", {})


def test_lmms_eval_must_be_installed(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="make suites"):
        run.check("mmstar", tmp_path / "lmms-eval", tmp_path / "new", KEY)


def test_a_folder_is_for_one_run(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="holds another run"):
        run.check("mmstar", Path(sys.executable), tmp_path, KEY)


def test_the_server_is_not_shown_the_judges_key(tmp_path: Path) -> None:
    told = run.command("mmvet", "demo:fast", "http://127.0.0.1:1", 8, tmp_path)
    (server,) = [argument for argument in told if "base_url" in argument]
    assert {"model_version=demo:fast", "base_url=http://127.0.0.1:1/v1", "api_key=none"} <= set(server.split(","))


def test_the_command(tmp_path: Path) -> None:
    """A stand-in writes down what it is told, and ends well without scores, as lmms-eval does."""
    stand_in, told = tmp_path / "lmms-eval", tmp_path / "told"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    stand_in.chmod(0o755)
    command = [sys.executable, "-m", "deploy.suites.run", "mmstar", "demo:greedy", "--out", str(tmp_path / "out")]
    command += ["--lmms-eval", str(stand_in), "--", "--limit", "4"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "mmstar: lmms-eval wrote no scores\n")
    assert told.read_text().splitlines()[-2:] == ["--limit", "4"]
