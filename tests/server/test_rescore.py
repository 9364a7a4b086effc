"""`swires rescore`: a stored answer decided upon again, as far as it goes without vLLM."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.app import create_app
from server.checkpoint import Checkpoint, save
from server.cli import main
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.scorer.likelihood import Likelihood
from server.scorer.offered import make_scorers
from server.settings import Settings
from swires.protocols import Scorer
from swires.stages import Stage
from tests.scorer.loopback import loopback, ok
from tests.server.client import Json, ask, chat, connect

KNOWN = Checkpoint.model_validate(
    {
        "verifier": {"ask": "?", "yes": "+", "no": "-"},
        "calibration": {
            name: {stage.name: {"mean": 0.0, "std": 1.0} for stage in Stage}
            for name in ("likelihood", "verifier", "reward_model")
        },
    }
)


def answered(scorers: Mapping[str, Scorer] | None = None, n: int = 1, **swires: object) -> Json:
    """The answer of a server, with its trace."""

    async def asked() -> Json:
        async with FakeEngine() as engine:
            known = make_scorers(engine, KNOWN, ("likelihood",))
            app = create_app(engine, scorers or {"fake": FakeScorer(), **known}, Settings(model="demo"))
            async with connect(app) as client:
                answer: Json = (await ask(client, n=n, swires={"trace": True, **swires})).json()
        return answer

    return asyncio.run(asked())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (folder := tmp_path / "model").mkdir()
    save(str(folder), KNOWN)
    return folder


def stored(folder: Path, answer: Json, name: str = "answer.json") -> str:
    (folder / name).write_text(json.dumps(answer))
    return str(folder / name)


def rescored(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status = main(["rescore", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("policy", ["swires", "stage_beam", "sentence_beam", "best_of_n", "greedy"])
def test_of_several_answers_the_first_is_decided_upon(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, policy: str
) -> None:
    answer = answered(policy=policy, n=3)
    told = rescored(capsys, stored(tmp_path, answer))
    assert told["answer"] == answer["choices"][0]["message"]["content"] == told["before"]["answer"]
    assert (told["numbers"], told["score"]) == (answer["swires"]["numbers"], answer["swires"]["score"])
    assert (told["lacking"], told["generations"]) == (None, answer["swires"]["generations"] - 2)


@pytest.mark.parametrize("policy", ["swires", "stage_beam", "sentence_beam", "best_of_n", "greedy"])
def test_with_nothing_changed_nothing_changes(capsys: pytest.CaptureFixture[str], tmp_path: Path, policy: str) -> None:
    answer = answered(policy=policy)
    told = rescored(capsys, stored(tmp_path, answer))
    search = answer["swires"]
    assert told["answer"] == answer["choices"][0]["message"]["content"] == told["before"]["answer"]
    for fact in ("policy", "numbers", "scorer", "score", "accepted", "stopped_by", "generations", "retraces"):
        assert told[fact] == search[fact]
    for node, was in zip(told["trace"], search["trace"], strict=True):
        assert node == {**was, "before": {"score": was["score"], "fate": was["fate"]}}
    assert told["lacking"] is None


def test_the_swires_object_alone_will_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = answered()
    assert rescored(capsys, stored(tmp_path, answer)) == rescored(capsys, stored(tmp_path, answer["swires"]))


def test_another_threshold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = stored(tmp_path, answered(accept_z=100, max_retraces=1))
    low = rescored(capsys, file, "--accept-z", "-100")
    assert (low["accepted"], low["before"]["accepted"]) == (True, False)
    assert (low["retraces"], low["numbers"]["accept_z"]) == (0, -100)
    assert [node["fate"] for node in low["trace"]].count("unused") >= 8
    more = rescored(capsys, file, "--max-retraces", "2")
    assert (more["accepted"], more["stopped_by"]) == (None, "tree")
    assert more["lacking"] == {"stage": "CAPTION", "parents": [0], "candidates": 4}
    assert more["answer"] is not None


def test_a_policy_narrower_than_the_search(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = stored(tmp_path, answered(captions=4, keep_captions=4, keep_reasonings=8, max_retraces=0))
    narrow = rescored(capsys, file, "--keep-captions", "1", "--keep-reasonings", "1", "--accept-rank", "1")
    assert (narrow["generations"], narrow["lacking"]) == (1 + 4 + 2 + 1, None)


def test_another_scorer(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    file = stored(tmp_path, answered(policy="best_of_n", candidates=6, scorer="likelihood"))
    told = rescored(capsys, file, "--scorer", "consensus", "--model", str(model))
    scores = {node["id"]: node["score"] for node in told["trace"]}
    (chosen,) = [node["id"] for node in told["trace"] if node["fate"] == "chosen"]
    assert (told["scorer"], told["before"]["scorer"]) == ("consensus", "likelihood")
    assert scores[chosen] == told["score"] == max(scores.values())
    back = rescored(capsys, file, "--scorer", "likelihood", "--model", str(model))
    assert [node["score"] for node in back["trace"]] == pytest.approx(
        [node["before"]["score"] for node in back["trace"]]
    )
    assert back["answer"] == back["before"]["answer"]


async def test_a_reward_model_is_shown_the_request(tmp_path: Path, model: Path) -> None:
    answer = await asyncio.to_thread(answered, policy="best_of_n", candidates=3)

    def longest(body: Json) -> bytes:
        return ok({"data": [{"probs": [float(len(body["messages"][-1]["content"][0]["text"]))]}]})

    async with loopback(longest) as server:
        files = (stored(tmp_path, answer), "--request", stored(tmp_path, chat(), "request.json"))
        options = ("--scorer", "reward_model", "--reward-url", server.url, "--model", str(model), "--json")
        command = (sys.executable, "-m", "server", "rescore", *files, *options)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        asked = [each.body["messages"] for each in server.asked]
    assert process.returncode == 0
    told = json.loads(out)
    assert [node["score"] for node in told["trace"]] == [len(node["text"]) for node in told["trace"]]
    assert chat()["messages"][0] in [messages[0] for messages in asked]


def test_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = stored(tmp_path, answered(accept_z=-100, max_retraces=1))
    assert main(["rescore", file, "--accept-z", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, *rows = lines[:13]
    assert head.split() == ["id", "parent", "stage", "before", "now", "before", "now"]
    assert rows[0].split() == ["0", "-", "SUMMARY", "-", "-", "chosen", "chosen"]
    assert [row.split()[0] for row in rows] == [str(number) for number in range(12)]
    said = {line[:12].strip(): line[12:] for line in lines[14:19]}
    assert "accept_z 100.0" in said["policy"]
    assert said["accepted"] == "yes -> -"
    assert lines[-2].split() == ["stopped_by", "-", "->", "tree"]
    assert lines[-1].startswith("The policy asks for 4 candidates of CAPTION of 0.")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "No such file or directory"),
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ({"swires": {}}, "policy: Field required"),
        ({"trace": None}, 'holds no tree: ask with "swires": {"trace": true}'),
        ({"trace": []}, "holds no tree"),
        ({"policy": "beam"}, "policy: Input should be 'swires'"),
        ({"numbers": {"beams": 1}}, "numbers: the policy best_of_n has no beams"),
        ({"trace": "twice"}, "trace: candidate 0 does not come once, after its parent"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: object, line: str
) -> None:
    search = answered(policy="best_of_n")["swires"]
    if isinstance(content, dict) and "swires" not in content:
        twice = search["trace"] * 2
        content = {**search, **content, **({"trace": twice} if content.get("trace") == "twice" else {})}
    if content is not None:
        (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["rescore", str(tmp_path / "a.json")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"swires: {tmp_path / 'a.json'}: {line}")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--keep", "1"), "--keep: the policy swires has no such number"),
        (("--accept-z", "high"), "--accept-z: Input should be a valid number"),
        (("--captions", "0"), "captions must be at least 1, not 0"),
        (("--captions", "400"), "max_generations must be at least 408 for the policy swires"),
        (("--model", "MODEL"), "--model: goes with --scorer"),
        (("--scorer", "consensus"), "--model: is missing"),
        (("--scorer", "consensus", "--model", "/no/such"), "--model: there is no directory /no/such"),
        (("--scorer", "oracle", "--model", "MODEL"), "--scorer: the checkpoint has no scorer 'oracle'"),
        (("--scorer", "judge", "--model", "MODEL"), "--scorer: judge needs --judge-url and --judge-model"),
        (("--scorer", "verifier", "--model", "MODEL"), "--request: is missing, verifier is shown the question"),
        (("--scorer", "likelihood", "--model", "MODEL"), "a candidate carries no log-probability"),
        (
            ("--scorer", "likelihood", "--model", "MODEL", "--request", "REQUEST"),
            "--request: likelihood is not shown the question",
        ),
        (
            ("--scorer", "verifier", "--model", "MODEL", "--request", "ANSWER"),
            "ANSWER: messages: Field required",
        ),
        (
            ("--scorer", "consensus", "--model", "MODEL", "--", "--dtype", "float32"),
            "vLLM's options: consensus does not ask the checkpoint's engine",
        ),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, arguments: tuple[str, ...], line: str
) -> None:
    places = {
        "MODEL": str(model),
        "REQUEST": stored(tmp_path, chat(), "request.json"),
        "ANSWER": stored(tmp_path, answered(scorers={"fake": FakeScorer()})),
    }
    given = [places.get(argument, argument) for argument in arguments]
    assert main(["rescore", places["ANSWER"], *given]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"swires: {line.replace('ANSWER', places['ANSWER'])}")
    assert told.count("\n") == 1


def test_likelihood_is_told_with_the_trace_of_a_search_that_needed_it() -> None:
    assert Likelihood.needs_likelihood
    nodes = answered(scorer="likelihood")["swires"]["trace"]
    assert all((node["logprob"] is None) is (node["stage"] == "SUMMARY") for node in nodes)
