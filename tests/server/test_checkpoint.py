import json
from pathlib import Path

import pytest

from server.checkpoint import Checkpoint, CheckpointError, Deviation, VerifierTokens, load, save
from swires.stages import Stage

FACTS = {
    "stages": {"tags": "special"},
    "verifier": {"ask": "<VERIFY>", "yes": "+", "no": "-"},
    "calibration": {"verifier": {"CAPTION": {"mean": 0.5, "std": 2}}},
    "lengths": {"CAPTION": 61.5},
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "swires.json").write_text(json.dumps(FACTS))
    known = load(str(tmp_path))
    assert known.staged
    assert known.verifier == VerifierTokens(ask="<VERIFY>", yes="+", no="-")
    assert known.calibration == {"verifier": {Stage.CAPTION: Deviation(mean=0.5, std=2)}}
    save(str(tmp_path), known)
    assert json.loads((tmp_path / "swires.json").read_text()) == FACTS
    assert [path.name for path in tmp_path.iterdir()] == ["swires.json"]


def test_nothing_is_known_without_the_file(tmp_path: Path) -> None:
    assert load(str(tmp_path)) == load("some/model") == Checkpoint()
    assert not Checkpoint().staged


def test_a_checkpoint_of_the_hub_is_found_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save(str(snapshot), Checkpoint.model_validate(FACTS))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load("some/model") == Checkpoint.model_validate(FACTS)
    assert load("some/other") == Checkpoint()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("no json", "swires.json: Invalid JSON"),
        ({"stages": {"tags": "bold"}}, "stages.tags: Input should be 'special' or 'text'"),
        ({"verifyer": {}}, "verifyer: Extra inputs are not permitted"),
        ({"verifier": {"ask": "", "yes": "+", "no": "-"}}, "verifier.ask: String should have at least 1 character"),
        ({"calibration": {"verifier": {"caption": {"mean": 0, "std": 1}}}}, "is none of the stages SUMMARY, CAPTION"),
        ({"calibration": {"verifier": {"CAPTION": {"mean": 0, "std": 0}}}}, "std: Input should be greater than 0"),
        ({"lengths": {"CAPTION": 0}}, "lengths.CAPTION: Input should be greater than 0"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, facts: object, message: str) -> None:
    (tmp_path / "swires.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    with pytest.raises(CheckpointError) as error:
        load(str(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        save(str(tmp_path / "absent"), Checkpoint())
