from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from server import checkpoint
from training.demo.run import DemoRun, Recipe
from training.tasks.example import Example

TINY = Recipe(
    sight_steps=2,
    sight_batch=4,
    steps=6,
    judging_from=3,
    rounds=1,
    round_scenes=2,
    samples_per_scene=2,
    batch=2,
    save_every=2,
    evaluate_every=100,
    compile=False,
)


class Killed(Exception):
    pass


class Answering(DemoRun):
    """Answers right and wrong by turns, as a model that has learned would."""

    def answer(self, examples: Sequence[Example], **_: object) -> list[list[int]]:
        texts = [one.text.replace("<CONCLUSION>", "<CONCLUSION>" + "1" * (at % 2)) for at, one in enumerate(examples)]
        return [self.collate.encode(text) for text in texts]


class Interrupted(Answering):
    """Dies in the middle of its last step but one."""

    def _lr(self) -> float:
        if self.step == 5:
            raise Killed
        return super()._lr()


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole = Answering(tmp_path / "whole", TINY)
    whole.run()
    with pytest.raises(Killed):
        Interrupted(tmp_path / "killed", TINY).run()
    again = Answering(tmp_path / "killed", TINY)
    again.run()
    assert [len(ones) for ones in again.judged] == [4]
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, rtol=0, atol=0)


def test_an_exported_folder_is_one_that_the_server_reads(tmp_path: Path) -> None:
    run = DemoRun(tmp_path / "run", Recipe(steps=0, compile=False))
    run.export(tmp_path / "out")
    facts = checkpoint.load(str(tmp_path / "out"))
    assert facts.staged
    assert facts.verifier is not None
    assert facts.verifier.yes == "+"
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "processor_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "recipe.json",
        "questions.jsonl",
    }
