"""The command, as far as it goes without vLLM; what it does with it is tested on real vLLM."""

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from server import sample
from server.checkpoint import FILE_NAME, Checkpoint, save
from server.cli import main
from server.commands import StartError, read_settings
from server.engine.fake import FakeEngine
from server.schemas import ChatRequest
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from swires.stages import Stage

CALIBRATED = {stage.name: {"mean": 0.0, "std": 1.0} for stage in Stage}
VERIFIER = {"ask": "?", "yes": "+", "no": "-"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and what stands on stderr."""
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().err


def known(**parts: object) -> Checkpoint:
    return Checkpoint.model_validate({"stages": {"tags": "special"}, **parts})


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    options = {name: field for name, field in Settings.model_fields.items() if not field.exclude}
    assert Settings.model_fields.keys() - options.keys() == {"judge_api_key", "engine_api_key"}
    assert "--judge-api-key" not in told
    for name, field in options.items():
        assert f"--{name.replace('_', '-')} " in told
        assert field.description
        assert field.description in told


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "swires: the following arguments are required: COMMAND; see swires --help"),
        (["serve"], "swires: --model: is missing"),
        (["serve", "--model", "x", "--prot", "1"], "swires: unrecognized arguments: --prot 1; see swires --help"),
        (["serve", "--model", "x", "--port", "http"], "swires: --port: Input should be a valid integer"),
        (["serve", "--model", "x", "--preset", "best"], "swires: --preset: Input should be 'fast', 'balanced'"),
        (["serve", "--model", "x", "--judge-url", "nowhere"], "swires: --judge-url: Input should be a valid URL"),
        (["serve", "--model", "x", "--judge-api-key", "k"], "swires: unrecognized arguments: --judge-api-key k"),
        (["serve", "--model", "/no/such"], "swires: --model: there is no directory /no/such"),
        (
            ["serve", "--model", "no/such"],
            "swires: --model: the local Hugging Face cache has no swires.json of no/such",
        ),
        (["serve", "--model", "no..such"], "swires: no..such is neither a directory nor a Hugging Face id"),
        (["calibrate"], "swires calibrate: the following arguments are required: --model; see swires calibrate --help"),
        (["calibrate", "--model", "/no/such"], "swires: --model: there is no directory /no/such"),
        (["calibrate", "--model", "."], "swires: questions.jsonl: "),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    status, told = run(capsys, *arguments)
    assert status != 0
    assert told.startswith(line)
    assert told.count("\n") == 1


def test_a_place_that_cannot_be_listened_on_is_one_line(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    serve = ("serve", "--model", str(checkpoint))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = run(capsys, *serve, "--port", str(port))
    assert (status, told) == (1, f"swires: cannot listen on 127.0.0.1:{port}: Address already in use\n")
    status, told = run(capsys, *serve, "--host", "no.such.host.invalid")
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith("swires: cannot listen on no.such.host.invalid")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_door_is_refused_unless_told(capsys: pytest.CaptureFixture[str], checkpoint: Path, host: str) -> None:
    status, told = run(capsys, "serve", "--model", str(checkpoint), "--host", host, "--port", "0")
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith(f"swires: --host: {host} is not this machine alone: give --api-keys FILE")


def test_a_file_of_keys_is_read_before_anything_starts(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    status, told = run(capsys, "serve", "--model", str(checkpoint), "--port", "0", "--api-keys", "no/such")
    assert (status, told) == (1, "swires: no/such: No such file or directory\n")


def test_a_broken_swires_json_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"stages": {"tags": "none"}}')
    status, told = run(capsys, "serve", "--model", str(tmp_path))
    assert status == 1
    assert "stages.tags" in told
    assert told.count("\n") == 1


def test_options_go_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIRES_PORT", "9000")
    monkeypatch.setenv("SWIRES_SCORERS", "likelihood,verifier")
    monkeypatch.setenv("SWIRES_HOST", "")
    settings = read_settings({"model": "/models/mine"})
    assert (settings.port, settings.scorers, settings.host) == (9000, ("likelihood", "verifier"), "127.0.0.1")
    assert settings.name == "mine"
    assert read_settings({"model": "x", "port": "9001"}).port == 9001
    assert read_settings({"model": "x", "reasoning_content": "true"}).reasoning_content


def test_a_mistake_in_the_environment_names_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIRES_TOP_P", "2")
    with pytest.raises(StartError, match="--top-p: "):
        read_settings({"model": "x"})


def test_scorers_are_those_that_are_calibrated_unless_named() -> None:
    both = known(verifier=VERIFIER, calibration={"likelihood": CALIBRATED, "verifier": CALIBRATED})
    assert chosen_scorers(both, ()) == ("verifier", "likelihood", "consensus")
    assert chosen_scorers(both, ("likelihood",)) == ("likelihood",)
    assert chosen_scorers(known(calibration={"likelihood": CALIBRATED}), ()) == ("likelihood", "consensus")
    assert list(make_scorers(FakeEngine(), both, ("likelihood", "verifier"))) == ["likelihood", "verifier"]


def test_a_checkpoint_of_which_nothing_is_known_is_searched_by_consensus() -> None:
    assert chosen_scorers(Checkpoint(), ()) == ("consensus",)
    assert list(make_scorers(FakeEngine(), Checkpoint(), ("consensus",))) == ["consensus"]


@pytest.mark.parametrize(
    ("parts", "arguments", "line"),
    [
        (
            {},
            (),
            "swires: no scorer is calibrated: run `swires calibrate` first, or choose --scorers consensus\n",
        ),
        (
            {},
            ("--scorers", "verifier"),
            "swires: --scorers: the checkpoint has no scorer 'verifier', only likelihood, consensus\n",
        ),
        (
            {"verifier": VERIFIER},
            ("--scorers", "verifier"),
            "swires: no mean and deviation for SUMMARY, CAPTION, REASONING, CONCLUSION: run `swires calibrate` first\n",
        ),
        (
            {},
            ("--judge-url", "http://127.0.0.1:1/v1"),
            "swires: --judge-model: is missing, --judge-url needs it\n",
        ),
        (
            {},
            ("--judge-url", "http://127.0.0.1:1/v1", "--judge-model", "critic", "--scorers", "judge,consensus"),
            (
                "swires: --scorers: judge only ranks, but swires compares scores with a threshold; "
                "policies for judge are greedy, best_of_n, sentence_beam, stage_beam\n"
            ),
        ),
    ],
)
def test_a_scorer_that_cannot_be_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, parts: dict[str, object], arguments: tuple[str, ...], line: str
) -> None:
    save(str(tmp_path), known(**parts))
    with socket.create_server(("127.0.0.1", 0)) as taken:  # which would be the next complaint
        port = str(taken.getsockname()[1])
        assert run(capsys, "serve", "--model", str(tmp_path), "--port", port, *arguments) == (1, line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--engine-url", "http://127.0.0.1:1"), "--engine-url: goes with --engine http"),
        (("--engine", "http"), "--engine-url: is missing, --engine http needs it"),
        (("--max-cached-positions", "9"), "--max-cached-positions: goes with --engine transformers"),
        (
            ("--engine", "transformers", "--reward-model", ".", "--scorers", "consensus"),
            "--reward-model: goes with --engine vllm",
        ),
        (("--engine", "transformers", "--", "--dtype", "float32"), "vLLM's options: go with --engine vllm"),
    ],
)
def test_an_option_of_another_engine_is_told_before_one_starts(
    checkpoint: Path, options: tuple[str, ...], line: str
) -> None:
    serve = (sys.executable, "-m", "server", "serve", "--model", str(checkpoint), "--port", "0")
    ended = subprocess.run((*serve, *options), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, f"swires: {line}\n")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--judge-model", "critic", "--scorers", "judge", "--judge-url"), "swires: the judge does not answer: "),
        (("--scorers", "reward_model", "--reward-url"), "swires: the reward model does not answer: "),
    ],
)
def test_a_scorer_that_is_not_there_is_told_before_the_engine_starts(
    tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    save(str(tmp_path), Checkpoint.model_validate({"calibration": {"reward_model": CALIBRATED}}))
    for name, content in (("config.json", '{"model_type": "x"}'), ("chat_template.jinja", ""), ("tokenizer.model", "")):
        (tmp_path / name).write_text(content)
    save_file({}, tmp_path / "model.safetensors")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    serve = (sys.executable, "-m", "server", "serve", "--model", str(tmp_path), "--port", "0")
    ended = subprocess.run((*serve, *options, url), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(line)


def test_where_nothing_can_be_written_is_one_line(checkpoint: Path) -> None:
    serve = f"{sys.executable} -m server serve --model {checkpoint} --port 0 --log-format json"
    ended = subprocess.run(["bash", "-c", f"ulimit -f 0; exec {serve}"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("swires: No usable temporary directory found in ")


def test_the_curl_line_holds_a_request_that_the_server_takes() -> None:
    words = shlex.split(sample.curl("http://127.0.0.1:8000", "it's"))
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    chat = ChatRequest.model_validate(json.loads(words[-1]))
    (image,) = chat.images()
    assert image.url.startswith("data:image/png;base64,")
    assert (chat.model, len(words[-1]) < 1000) == ("it's", True)
