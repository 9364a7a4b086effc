"""Training at toy size, through the command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForImageTextToText, AutoProcessor

from swires.stages import Stage
from tests.training import tiny
from tests.training.by_heart import command
from tests.training.verifier.judged import answers, labelled, staged, write_task
from training.checkpoint import VERIFIER
from training.collate import IGNORED, Collator
from training.config import load
from training.verifier.config import Head, VerifierRun
from training.verifier.judge import Judge
from training.verifier.measure import auc
from training.verifier.rows import RowCollator, Verdicts, verdict_rows
from training.verifier.train import verdict_loss


def train(config: Path, *overrides: str) -> Path:
    command("verifier", "train", "--config", str(config), *overrides)
    return Path(load(VerifierRun, config, overrides).train["output_dir"])


def history(run: Path) -> list[float]:
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    state = json.loads((last / "trainer_state.json").read_text())
    return [row["loss"] for row in state["log_history"] if "loss" in row]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return staged("idefics3", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned four verdicts by heart, and answers beside them."""
    folder = tmp_path_factory.mktemp("task")
    return train(write_task(folder, base, max_steps=200), *answers(folder), "answers.share=0.34")


def read(folder: Path) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """The logits of the token that asks, of each row by itself."""
    collate = Collator(AutoProcessor.from_pretrained(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    for row in verdict_rows(labelled(), collate, "token").to_list():
        batch = RowCollator(collate)([row])
        del batch["judged"], batch["labels"]
        with torch.inference_mode():
            yield model(**batch).logits[0, -2], row


def test_the_loss_is_of_the_verdict_tokens_alone(base: Path) -> None:
    collate = Collator(AutoProcessor.from_pretrained(base))
    verdicts = Verdicts(collate)
    model = AutoModelForImageTextToText.from_pretrained(base)
    batch = RowCollator(collate)(verdict_rows(labelled(), collate, "token").to_list())
    labels, judged = batch.pop("labels"), batch.pop("judged")
    assert (labels != IGNORED).sum() == 4
    with torch.inference_mode():
        logits = model(**batch).logits
    rows = list(read(base))
    token = [cross_entropy(asked, torch.tensor(row["tail"][-1])) for asked, row in rows]
    odds = [asked[verdicts.yes] - asked[verdicts.no] for asked, _ in rows]
    score = [
        -logsigmoid(one if row["tail"][-1] == verdicts.yes else -one) for one, (_, row) in zip(odds, rows, strict=True)
    ]
    told: dict[Head, list[torch.Tensor]] = {"token": token, "score": score}
    for head, expected in told.items():
        loss = verdict_loss(logits, labels, judged, verdicts, head=head, weight=3.0)
        assert float(loss) == pytest.approx(3 * float(torch.stack(expected).mean()), abs=1e-4)


def test_answers_and_verdicts_weigh_as_told_whatever_their_length(base: Path) -> None:
    verdicts = Verdicts(Collator(AutoProcessor.from_pretrained(base)))
    logits = torch.randn(2, 9, 700, generator=torch.Generator().manual_seed(0))
    labels = torch.full((2, 9), IGNORED)
    labels[0, 8], labels[1, 2:] = verdicts.yes, torch.arange(7)
    judged = torch.tensor([True, False])
    one = cross_entropy(logits[0, 7], torch.tensor(verdicts.yes))
    others = cross_entropy(logits[1, 1:8], torch.arange(7))
    loss = verdict_loss(logits, labels, judged, verdicts, head="token", weight=0.5)
    assert float(loss) == pytest.approx(float(others + 0.5 * one), abs=1e-5)


def test_verdicts_are_learned_and_the_folder_says_so(base: Path, trained: Path) -> None:
    before = Judge.load(base).verdicts(labelled(), "token", batch=3)[Stage.CAPTION]
    after = Judge.load(trained).verdicts(labelled(), "token", batch=3)[Stage.CAPTION]
    assert auc(after) == 1.0 > (auc(before) or 0)
    assert [one.probability > 0.5 for one in after] == [one.right for one in after]
    assert json.loads((trained / "swires.json").read_text()) == {"stages": {"tags": "special"}, "verifier": VERIFIER}


def test_a_run_that_was_stopped_continues_to_the_same_losses(base: Path, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
    whole = train(write_task(tmp_path / "whole", base, **saving, max_steps=4))
    config = write_task(tmp_path / "cut", base, **saving, max_steps=4)
    train(config, "train.max_steps=2")
    assert history(train(config)) == history(whole)
    assert len(history(whole)) == 4


def test_lora_and_a_score_alone(base: Path, tmp_path: Path) -> None:
    config = write_task(tmp_path, base, max_steps=2)
    run = train(config, "model.lora={r: 2, lora_alpha: 4}", "head=score", "model.frozen=[vision]")
    weights = load_file(run / "adapter_model.safetensors")
    assert weights
    assert not any("vision" in name for name in weights)
    command("export", "--model", str(run), "--out", str(tmp_path / "out"), "--verifier", "--dtype", "float32")
    before = [float(asked.abs().sum()) for asked, _ in read(base)]
    after = [float(asked.abs().sum()) for asked, _ in read(tmp_path / "out")]
    assert before != pytest.approx(after, abs=1e-3)


def test_a_report_of_before_and_after(
    base: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [f"before={base}", f"after={trained}"]
    labels = str(trained.parent / "labels.jsonl")
    limits = ["--answers", "2", "--max-new-tokens", "60"]
    command("verifier", "report", "--labels", labels, "--models", *models, "--out", str(tmp_path), *limits)
    told = capsys.readouterr().out
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["after"]["stages"]["CAPTION"]["auc"] == 1.0
    assert facts["after"]["stages"]["SUMMARY"]["auc"] is None
    assert (facts["after"]["answered"], facts["after"]["answered_right"]) == (2, 2)
    assert facts["before"]["answered_right"] == 0
    after = next(line for line in told.splitlines() if line.startswith("after"))
    assert "1.000 1.000 0.0" in after
    assert "100.0%" in after
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("head=both", "head: Input should be 'token' or 'score'"),
        ("answers.share=0.5", "answers.records: is not set; give it in the file or as answers.records=VALUE"),
        ("labels=[]", "labels: Value should have at least 1 item"),
        ("labels=nowhere.jsonl", "nowhere.jsonl: No such file or directory"),
        ("train.learning_rat=1", "train.learning_rat: trl.SFTConfig has no such field; learning_rate?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(base: Path, tmp_path: Path, override: str, told: str) -> None:
    config = write_task(tmp_path, base)
    with pytest.raises(SystemExit) as refused:
        train(config, override)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_score_learns_no_answers(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="answers: the head score learns none"):
        train(write_task(tmp_path, base), "head=score", *answers(tmp_path))


def test_a_model_that_does_not_know_the_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has not learned the stages"):
        train(write_task(tmp_path / "task", tiny.write("idefics3", tmp_path / "model")))
