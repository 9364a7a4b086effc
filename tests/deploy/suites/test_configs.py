"""The configs, and the tasks of lmms-eval that they name, read from its wheel."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.suites.easy_vqa import questions
from deploy.suites.install import LMMS_EVAL
from deploy.suites.run import HERE, JUDGED, SUITES
from server.schemas import ChatRequest

OF_THE_PAPER = ("ai2d", "hallusionbench", "mathvista", "mmbench", "mmstar", "mmvet")
OPTIONS = {"tasks", "model", "gen_kwargs", "log_samples", "include_path"}

Task = Mapping[str, Any]


class Loader(yaml.SafeLoader):
    """`!function` names Python that is not imported here."""


Loader.add_constructor("!function", lambda loader, node: str(node.value))


@pytest.fixture(scope="module")
def wheel(pytestconfig: pytest.Config) -> zipfile.ZipFile:
    """Downloaded once, without what lmms-eval depends on."""
    release = LMMS_EVAL[0]
    folder = pytestconfig.cache.mkdir(release.replace("==", "-"))
    if not list(folder.glob("*.whl")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--retries",
            "1",
            "--dest",
            str(folder),
            release,
        ]
        got = subprocess.run(command, capture_output=True, text=True, check=False)
        if got.returncode:
            pytest.skip(f"{release} is in none of pip's sources")
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def tasks(wheel: zipfile.ZipFile) -> Mapping[str, Task]:
    """Those whose folder a config could mean, by name."""
    folders = "ai2d|hallusion_bench|mathvista|mmbench|mmstar|mmvet"
    files = [name for name in wheel.namelist() if re.fullmatch(rf"lmms_eval/tasks/(?:{folders})/\w+\.yaml", name)]
    found = [_task(wheel, name) for name in files]
    return {task["task"]: task for task in found if isinstance(task.get("task"), str)}


def _task(wheel: zipfile.ZipFile, name: str) -> Task:
    task: Task = yaml.load(wheel.read(name), Loader)
    included = _task(wheel, f"{name.rpartition('/')[0]}/{task['include']}") if "include" in task else {}
    return {**included, **task}


def config(suite: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HERE / f"{suite}.yaml").read_text())
    return loaded


def named(tasks: Mapping[str, Task], suite: str) -> Iterator[Task]:
    return (tasks[name] for name in config(suite)["tasks"].split(","))


def test_the_papers_suites_and_our_own() -> None:
    assert tuple(SUITES) == tuple(sorted((*OF_THE_PAPER, "easy_vqa")))


@pytest.mark.parametrize("suite", SUITES)
def test_the_papers_settings(suite: str) -> None:
    told = config(suite)
    assert set(told) <= OPTIONS
    assert (told["model"], told["gen_kwargs"]) == ("async_openai", "max_new_tokens=2048,temperature=0")
    assert told["log_samples"] is True  # which tells whether all requests were answered


@pytest.mark.parametrize("suite", OF_THE_PAPER)
def test_lmms_eval_has_the_tasks(tasks: Mapping[str, Task], suite: str) -> None:
    for task in named(tasks, suite):
        assert task["output_type"] == "generate_until"
        assert task["metric_list"]
        assert task["dataset_path"]


@pytest.mark.parametrize("suite", OF_THE_PAPER)
def test_a_task_that_is_scored_by_a_model_is_known_as_such(tasks: Mapping[str, Task], suite: str) -> None:
    """In lmms-eval 0.7.3 an aggregation called so, or a metric, unless it is the static one; and HallusionBench's."""
    judged = [
        metric
        for task in named(tasks, suite)
        for metric in task["metric_list"]
        if re.search(r"gpt|judge|\bevaluate_hb\b", f"{metric['metric']} {metric['aggregation']}")
        and "static" not in metric["aggregation"]
    ]
    assert bool(judged) == (suite in JUDGED)


def test_masked_ai2d(tasks: Mapping[str, Task]) -> None:
    """The paper's; the letters of the choices stand in the picture."""
    assert config("ai2d")["tasks"] == "ai2d"
    assert tasks["ai2d"]["dataset_path"] != tasks["ai2d_no_mask"]["dataset_path"]


def test_the_local_task_and_its_questions() -> None:
    folder = HERE / "easy_vqa"
    task = yaml.safe_load((folder / "easy_vqa.yaml").read_text())
    assert config("easy_vqa")["include_path"] == str(folder.relative_to(HERE.parents[1]))
    assert (folder / task["dataset_kwargs"]["data_files"]["test"]).resolve() == questions.FILE


def test_questions_are_written(tmp_path: Path) -> None:
    from datasets import load_dataset

    file = tmp_path / "new" / "questions.parquet"
    questions.write(6, file)
    rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert rows.column_names == ["image", "question", "answer"]
    assert len(rows) == len({row["question"] for row in rows}) == 6
    assert all(row["image"].size == (64, 64) for row in rows)


def test_the_server_takes_what_lmms_eval_sends() -> None:
    """The body of its model type `async_openai` in release 0.7.3."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "what is the red shape?"}
    messages = [{"role": "user", "content": [image, text]}]
    ChatRequest.model_validate({"messages": messages, "model": "demo", "max_tokens": 2048, "temperature": 0})


@pytest.mark.parametrize("suite", SUITES)
def test_the_page_has_each_suite(suite: str) -> None:
    assert f"`{suite}`" in (HERE / "README.md").read_text()
