"""A folder that lacks something is refused in one line, before anything of vLLM is even imported."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from server.checkpoint import CheckpointError
from server.cli import main
from server.preflight import check_folder, check_reward_model
from tests.conftest import DEMO


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DEMO, tmp_path / "checkpoint")


def edited(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def lose_a_shard(folder: Path) -> None:
    shards = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def leave_adapters(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def forget_a_tag(folder: Path) -> None:
    def edit(tokenizer: dict[str, Any]) -> None:
        tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] != "</CAPTION>"]
        tokenizer["model"]["vocab"].pop("</CAPTION>")

    edited(folder / "tokenizer.json", edit)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def garbled(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def with_edit(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: edited(folder / name, edit)


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_tensor(name: str, *shape: int) -> Callable[[Path], None]:
    return lambda folder: save_file({name: numpy.zeros(shape, numpy.float16)}, folder / "more.safetensors")


DEFECTS: list[tuple[str, Callable[[Path], object]]] = [
    ("has no config.json: `python -m training export` writes", without("config.json")),
    ("config.json is no JSON: ", garbled("config.json", "{")),
    ("config.json is no JSON object", garbled("config.json", "[]")),
    ("names no model_type", garbled("config.json", "{}")),
    ("holds adapters of a model: `python -m training export` merges", leave_adapters),
    ("has no model.safetensors", without("model.safetensors")),
    ("has its weights in pickles, which may run code", pickle_weights),
    ("model.safetensors is broken or cut short", cut_short),
    ("model.safetensors is broken or cut short", garbled("model.safetensors", "")),
    ("model-00002-of-00002.safetensors is missing", lose_a_shard),
    (
        "embed_tokens.weight has 512 rows, by config.json the model knows 600 tokens",
        with_edit("config.json", lambda it: it["text_config"].update(vocab_size=600)),
    ),
    ("lm_head.weight has 9 rows, by config.json the model knows 512 tokens", with_tensor("lm_head.weight", 9, 256)),
    ("has no tokenizer.json", without("tokenizer.json")),
    ("tokenizer.json cannot be read", garbled("tokenizer.json", "{}")),
    ("does not tell how images are read", without("processor_config.json")),
    ("has no chat_template.jinja", without("chat_template.jinja")),
    ("swires.json needs </CAPTION> to be one token", forget_a_tag),
    ("swires.json needs maybe to be one token", with_edit("swires.json", lambda it: it["verifier"].update(no="maybe"))),
    ("the model has but 9: ", with_edit("config.json", lambda it: it["text_config"].update(vocab_size=9))),
    ("swires.json: stages.tags: ", with_edit("swires.json", lambda it: it["stages"].update(tags="bold"))),
]


@pytest.mark.parametrize(("message", "spoil"), DEFECTS)
def test_a_defect_is_told_in_one_line(folder: Path, message: str, spoil: Callable[[Path], object]) -> None:
    check_folder(folder)
    spoil(folder)
    with pytest.raises(CheckpointError) as refused:
        check_folder(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("message", "spoil"),
    [
        ("score.weight has 2 labels: a model that scores has one", with_tensor("score.weight", 2, 256)),
        ("model.safetensors is broken or cut short", cut_short),
        ("has no config.json", without("config.json")),
        ("does not tell how images are read", without("processor_config.json")),
    ],
)
def test_so_is_one_of_a_reward_model(folder: Path, message: str, spoil: Callable[[Path], object]) -> None:
    with_tensor("score.weight", 1, 256)(folder)
    check_reward_model(folder)
    spoil(folder)
    with pytest.raises(CheckpointError) as refused:
        check_reward_model(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_older_ways_to_write_a_folder_are_as_good(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    edited(folder / "tokenizer_config.json", lambda it: it.update(chat_template=template))
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor.pop("image_processor")))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"any": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    check_folder(folder)


def test_nothing_is_asked_of_tags_that_are_text(folder: Path) -> None:
    forget_a_tag(folder)
    edited(folder / "swires.json", lambda it: it["stages"].update(tags="text"))
    check_folder(folder)


@pytest.mark.parametrize("command", ["serve", "calibrate"])
def test_the_commands_look_before_they_start(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "server.engine.vllm_engine", None)
    cut_short(folder)
    assert main([command, "--model", str(folder)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"swires: {folder / 'model.safetensors'} is broken or cut short")
    assert told.count("\n") == 1
