"""The configs that are there."""

from pathlib import Path

import pytest

from training.arguments import arguments
from training.config import CONFIGS, ConfigError, load
from training.verifier.config import VerifierRun

FILES = sorted((CONFIGS / "verifier").glob("*.yaml"))
GIVEN = ["model.name=a", "labels=b", "answers.records=c", "answers.images=d"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_read_to_its_last_field(file: Path) -> None:
    run = load(VerifierRun, file, GIVEN)
    assert arguments({**run.train, "bf16": False, "use_cpu": True}).output_dir == run.train["output_dir"]
    assert load(VerifierRun, file, [*GIVEN[:2], "answers=null", "head=score"]).answers is None


def test_all_configs_are_looked_at() -> None:
    assert {file.stem for file in FILES} == {"demo", "qwen2_5_vl_7b"}


def test_what_a_config_leaves_open_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: is not set; give it in the file or as model\.name=VALUE"):
        load(VerifierRun, CONFIGS / "verifier" / "qwen2_5_vl_7b.yaml")
