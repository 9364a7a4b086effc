"""lmms-eval itself, through the server: `make suites-test` installs it and names this file; `make test` does not."""

import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from PIL import Image
from starlette.middleware.base import RequestResponseEndpoint

from deploy.suites.easy_vqa import questions
from deploy.suites.run import LMMS_EVAL, ROOT, SUITES
from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from tests.server.client import Json, image_url
from tests.server.running import running, running_checkpoint
from training.tasks.easy_vqa import easy_vqa_examples

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine

MADE_UP = Path(__file__).with_name("made_up.py")
SCORES = {
    "ai2d": {"ai2d exact_match"},
    "hallusionbench": {f"hallusion_bench_image {name}" for name in ("aAcc", "fAcc", "qAcc")},
    "mathvista": {"mathvista_testmini_cot llm_as_judge_eval"},
    "mmbench": {"mmbench_en_dev_static gpt_eval_score"},
    "mmstar": {"mmstar average", "mmstar math", "mmstar logical reasoning"},
    "mmvet": {"mmvet gpt_eval_score"},
}


async def put(suite: str, model: str, url: str, folder: Path, *options: str, judge: str = "", status: int = 0) -> str:
    """What `deploy.suites.run` prints; without the Hub, and with data sets built anew."""
    command = ["-m", "deploy.suites.run", suite, model, "--url", url, "--out", str(folder / "out"), *options]
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    asked = {"OPENAI_API_KEY": "the judge's", "OPENAI_API_URL": judge} if judge else {}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=environment | asked, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == status, printed
    return printed


def samples(folder: Path) -> list[Json]:
    return [json.loads(line) for path in folder.rglob("*_samples_*.jsonl") for line in path.read_text().splitlines()]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("model", ["demo:greedy", "demo:thorough"])
async def test_easy_vqa(vllm_engine: "VllmEngine", checkpoint: Path, tmp_path: Path, model: str) -> None:
    """The score is that of the CONCLUSIONs that the server gives to the same questions when it is asked directly."""
    count = 12
    questions.write(count, questions.FILE)
    async with running_checkpoint(vllm_engine, checkpoint) as server:
        printed = await put("easy_vqa", model, server.url, tmp_path, "--concurrency", "1")
        async with server.connect() as client:
            direct = [await conclusion(client, model, number, count) for number in range(count)]
    answers = sorted(samples(tmp_path / "out"), key=lambda sample: sample["doc_id"])
    assert [answer["filtered_resps"] for answer in answers] == direct
    right = sum(told.strip(" .").lower() == answer["target"] for told, answer in zip(direct, answers, strict=True))
    assert f"easy_vqa exact_match: {right / count:.4g}\n" in printed


async def conclusion(client: httpx.AsyncClient, model: str, number: int, count: int) -> str:
    every = easy_vqa_examples("test")
    example = every[number * len(every) // count]
    parts = [
        {"type": "image_url", "image_url": {"url": example.data_url}},
        {"type": "text", "text": example.question},
    ]
    body = {"model": model, "messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 2048}
    reply = await client.post("/v1/chat/completions", json=body)
    stages: list[Json] = reply.json()["swires"]["stages"]
    assert stages[-1]["stage"] == "CONCLUSION"
    return str(stages[-1]["text"])


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite != "easy_vqa"])
async def test_suites_of_the_paper(tmp_path: Path, suite: str) -> None:
    """On made-up rows: the Hub is not asked, what is sent and what is scored are the suite's own."""
    command = tmp_path / "lmms-eval"
    command.write_text(f'#!/bin/sh\nexec {LMMS_EVAL.with_name("python")} {MADE_UP} "$@"\n')
    command.chmod(0o755)
    bodies: list[Json] = []
    async with FakeEngine() as engine:
        app = create_app(engine, {"fake": FakeScorer()}, Settings.model_validate({"model": "demo"}))
        keep_bodies(app, bodies)
        with judge() as (url, judged):
            async with running(app) as server:
                printed = await put(suite, "demo:fast", server.url, tmp_path, "--lmms-eval", str(command), judge=url)
    for body in bodies:
        assert set(body) == {"messages", "model", "max_tokens", "temperature"}
        assert (body["model"], body["max_tokens"], body["temperature"]) == ("demo:fast", 2048, 0)
        assert body["messages"][0]["content"][0]["image_url"]["url"] == image_url(Image.new("RGB", (64, 64), "red"))
    answers = [sample["filtered_resps"] for sample in samples(tmp_path / "out")]
    assert len(answers) == len(bodies) > 0
    assert all(re.fullmatch(r"\d", answer) for answer in answers)  # the fake's CONCLUSION is a digit alone
    assert set(re.findall(r"^(\w[\w ]+): [\d.]+$", printed, re.MULTILINE)) == SCORES[suite]
    assert all("I will look for" not in prompt for prompt in judged)  # its SUMMARY


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    questions.write(2, questions.FILE)
    printed = await put("easy_vqa", "demo", "http://127.0.0.1:1", tmp_path, status=1)
    assert printed.endswith("2 of 2 requests were not answered, and lmms-eval counts them as wrong\n")


def keep_bodies(app: FastAPI, bodies: list[Json]) -> None:
    async def keep(request: Request, forward: RequestResponseEndpoint) -> Response:
        bodies.append(await request.json())
        return await forward(request)

    app.middleware("http")(keep)


@contextmanager
def judge() -> Iterator[tuple[str, list[str]]]:
    """In place of OpenAI, at any path: finds everything right. The prompts that it is sent come with its address."""
    prompts: list[str] = []

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompts.append(str(asked["messages"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(VERDICT).encode())

        def log_message(self, *told: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1", prompts
        finally:
            http.shutdown()
            thread.join()


VERDICT = {
    "id": "verdict",
    "object": "chat.completion",
    "created": 0,
    "model": "judge",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "1.0 correct"}}],
}
