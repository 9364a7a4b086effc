"""`swires ask` against a server on loopback, and with an engine of its own that is a fake."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from server import ask as asks
from server import commands
from server.checkpoint import Checkpoint, save
from server.cli import main
from server.engine.fake import FakeEngine
from server.scorer.offered import NONE_BESIDE, Beside
from server.serve import SIGNALS
from server.stored import read_request, read_search
from swires.stages import Stage
from tests.server.client import Held, Json
from tests.server.conftest import Started
from tests.server.running import running

NOWHERE = "http://127.0.0.1:9"
MODELS = b'{"data": [{"id": "demo"}]}'
LIKELIHOOD = Checkpoint.model_validate(
    {"calibration": {"likelihood": {stage.name: {"mean": 0.0, "std": 1.0} for stage in Stage}}}
)


@pytest.fixture
def image(tmp_path: Path) -> str:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


async def run(*arguments: str) -> int:
    """Exit status, the command in a thread beside the server."""
    return await asyncio.to_thread(main, ["ask", *arguments])


def failed(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    told = capfd.readouterr().err
    assert told.startswith("swires: ")
    assert told.count("\n") == 1
    return told.removeprefix("swires: ").strip()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("/no/such.png", "How many?"), "/no/such.png: No such file or directory"),
        (("/", "How many?"), "/: Is a directory"),
        ((__file__, "How many?"), f"{__file__}: is no image that can be read: PNG, JPEG, WEBP, GIF"),
        (("-", "How many?"), f"no server answers at {NOWHERE}"),
        (("-", "How many?", "--seed", "one"), "--seed: Input should be a valid integer"),
        (("-", "How many?", "--temperature", "3"), "--temperature: Input should be less than or equal to 2"),
        (("-", "How many?", "--preset", "best"), "--preset: Input should be 'fast', 'balanced' or 'thorough'"),
        (("-", "How many?", "--url", "nowhere"), "--url: Input should be a valid URL"),
        (("-", "How many?", "--trace", "/no/such"), "/no/such: No such file or directory"),
        (("-", "How many?", "--reward-model", "x"), "--reward-model: goes with --model"),
        (("-", "How many?", "--", "--dtype", "float32"), "vLLM's options: go with --model"),
        (("-", "How many?", "--model", "x", "--url", NOWHERE), "--url: is one server, --model another"),
        (("-", "How many?", "--model", "/no/such"), "--model: there is no directory /no/such"),
        (("-", "How many?", "--model", "MODEL", "--scorer", "oracle"), "--scorer: the checkpoint has no scorer"),
    ],
)
def test_a_mistake_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], line: str
) -> None:
    monkeypatch.setenv("SWIRES_URL", NOWHERE)
    save(str(tmp_path), LIKELIHOOD)
    assert main(["ask", *(str(tmp_path) if each == "MODEL" else each for each in arguments)]) == 1
    assert failed(capfd).startswith(line)


async def test_a_pipe_gets_what_the_json_tells(serving: Started, capfd: pytest.CaptureFixture[str], image: str) -> None:
    async with serving() as app, running(app) as server:
        asked = (image, "How many?", "--url", server.url, "--seed", "3")
        assert await run(*asked, "--json") == 0
        answer = json.loads(capfd.readouterr().out)
        assert await run(*asked) == 0
    message = answer["choices"][0]["message"]
    assert capfd.readouterr() == (f"{message['reasoning']}\n\n{message['content']}\n", "")


async def test_options_reach_the_search(
    serving: Started, capfd: pytest.CaptureFixture[str], image: str, tmp_path: Path
) -> None:
    options = ("--preset", "fast", "--policy", "stage_beam", "--scorer", "other", "--temperature", "0")
    async with serving() as app, running(app) as server:
        asked = (image, "How many?", "--url", f"{server.url}/v1", *options, "--json")
        answers = []
        for name in ("one", "two"):
            assert await run(*asked, "--trace", str(tmp_path / name)) == 0
            answers.append(json.loads(capfd.readouterr().out))
    one, two = answers
    assert one["choices"] == two["choices"]
    assert [one["swires"][key] for key in ("preset", "policy", "scorer")] == ["fast", "stage_beam", "other"]
    assert json.loads((tmp_path / "one").read_text()) == one["swires"]


async def test_rescore_reads_trace_and_request(
    serving: Started, capfd: pytest.CaptureFixture[str], image: str, tmp_path: Path
) -> None:
    tree, sent = str(tmp_path / "tree.json"), str(tmp_path / "request.json")
    async with serving() as app, running(app) as server:
        assert await run(image, "How many?", "--url", server.url, "--trace", tree, "--request", sent) == 0
    answer = capfd.readouterr().out.split()[-1]
    assert len(read_search(Path(tree)).trace or ()) >= 12
    assert len(list(read_request(Path(sent)).images())) == 1
    assert await asyncio.to_thread(main, ["rescore", tree]) == 0
    assert f"answer      {answer} -> {answer}" in capfd.readouterr().out


async def test_a_question_without_an_image(serving: Started, capfd: pytest.CaptureFixture[str]) -> None:
    async with serving() as app, running(app) as server:
        assert await run("-", "How many legs has a cat?", "--url", server.url) == 0
    assert capfd.readouterr().out


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_images_are_sent_as_they_are(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "image", kind)
    asking = asks.Asking(image=str(tmp_path / "image"), question="How many?")
    url = asking.request(live=False, trace=False)["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith(f"data:image/{kind.lower()};base64,")


@pytest.mark.parametrize("how", [(), ("--json",)])
async def test_a_refusal_is_told_in_the_servers_words(
    serving: Started, capfd: pytest.CaptureFixture[str], image: str, how: tuple[str, ...]
) -> None:
    async with serving() as app, running(app) as server:
        assert await run(image, "How many?", "--url", server.url, "--scorer", "oracle", *how) == 1
    assert failed(capfd) == "swires.scorer: must be one of fake, other"


async def test_an_error_within_a_stream_comes_after_what_was_told(
    serving: Started, capfd: pytest.CaptureFixture[str], image: str
) -> None:
    left = iter(range(100))

    async def step() -> None:
        if next(left, None) is None:
            raise RuntimeError

    async with serving() as app, running(app) as server:
        app.state.service.engine._step = step
        assert await run(image, "How many?", "--url", server.url) == 1
    out, err = capfd.readouterr()
    assert out.startswith("I will look for ")
    assert err == "swires: internal error\n"


@asynccontextmanager
async def answering(reply: bytes, models: bytes = MODELS) -> AsyncGenerator[tuple[str, list[bytes]], None]:
    """A server that answers every question with `reply` and hangs up, with what it was sent; without a reply it is
    silent."""
    heads = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head := await reader.readuntil(b"\r\n\r\n"))
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(models)
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\n" + length + models)
        elif reply:
            asked = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(asked[1]) if asked else 0)  # what is left unread resets the connection
            writer.write(reply)
        else:
            while await reader.read(1 << 16):
                pass
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def stream(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"".join(b"data: %s\n\n" % line for line in lines)


def content(text: str) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (b"", "the server is silent"),
        (b"220 mail.example.com\r\n\r\n", "the server broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndata: ", "the server broke off"),
        (stream(content("<SUMMARY>Look")), "the server broke off"),
        (stream(b"[DONE]"), "the server does not search: it tells nothing of its stages"),
        (stream(b"{"), "the server answers what is not of OpenAI's API"),
        (stream(b'{"choices": [], "error": {"message": "the engine\\n failed\\u001b"}}'), "the engine failed\ufffd"),
        (b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>", "the server answers with status 502"),
    ],
)
async def test_a_server_that_fails_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reply: bytes, line: str
) -> None:
    monkeypatch.setattr(asks, "SILENCE_S", 1)
    async with answering(reply) as (url, _):
        assert await run("-", "How many?", "--url", url) == 1
    assert failed(capfd) == line


@pytest.mark.parametrize("models", [b"Welcome!", b"[]", b'{"data": []}'])
async def test_another_kind_of_server_is_one_line(capfd: pytest.CaptureFixture[str], models: bytes) -> None:
    async with answering(b"", models) as (url, _):
        assert await run("-", "How many?", "--url", url) == 1
    assert failed(capfd) == "the server answers what is not of OpenAI's API"


async def test_a_line_within_a_text_does_not_end_its_event(capfd: pytest.CaptureFixture[str]) -> None:
    tokens = dict.fromkeys(("winner", "discarded", "aborted"), 1)
    facts = {
        "generations": 1,
        "retraces": 0,
        "score": None,
        "accepted": None,
        "stopped_by": None,
        "seconds": 1,
        "scorer_degraded": False,
    }
    last = json.dumps({"choices": [], "swires": {"stages": [], "tokens": tokens, **facts}}).encode()
    async with answering(stream(content("<CONCLUSION>a\u2028b\u00e9"), last, b"[DONE]")) as (url, _):
        assert await run("-", "How many?", "--url", url) == 0
    assert capfd.readouterr().out == "a\u2028b\u00e9\n"


async def test_the_key_comes_from_the_environment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWIRES_API_KEY", "secret")
    async with answering(stream(b"[DONE]")) as (url, heads):
        assert await run("-", "How many?", "--url", url) == 1
    assert len(heads) == 2
    assert all(b"authorization: bearer secret" in head.lower() for head in heads)
    assert "secret" not in failed(capfd)


async def test_text_that_is_not_utf_8_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    async with answering(b"") as (url, _):
        assert await run("-", "How many \udcff?", "--url", url) == 1
    assert failed(capfd) == "what is asked is not text in UTF-8"


async def command(*arguments: str, stdout: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "ask", *arguments, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )


async def test_a_reader_that_leaves_is_a_hang_up(serving: Started, image: str) -> None:
    engine = FakeEngine(step=(step := Held(free=100)))
    async with serving(engine) as app, running(app) as server:
        step.arm()
        reading, writing = os.pipe()
        process = await command(image, "How many?", "--url", server.url, stdout=writing)
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 1)
        os.close(reading)
        step.let_go.set()
        _, err = await process.communicate()
        assert (process.returncode, err) == (1, b"swires: nobody reads the answer\n")


async def test_ctrl_c_in_a_terminal_frees_the_server(serving: Started, image: str) -> None:
    """In the middle of the captions: the candidates are on the screen, the cursor is left on."""
    engine = FakeEngine(step=(step := Held(free=100)))
    async with serving(engine) as app, running(app) as server:
        step.arm()
        here, there = pty.openpty()
        termios.tcsetwinsize(there, (24, 80))
        process = await command(image, "How many?", "--url", server.url, stdout=there)
        os.close(there)
        seen = b""
        while b"CAPTION" not in seen:
            seen += await asyncio.to_thread(os.read, here, 1 << 16)
        await step.reached.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        await step.cancelled.wait()
        os.close(here)
        assert (process.returncode, err) == (130, b"")
        assert engine.num_running == 0
    assert b"I will look for " in seen
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") >= 0


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @asynccontextmanager
    async def engines(*arguments: object) -> AsyncGenerator[tuple[FakeEngine, Beside], None]:
        os.write(1, b"an engine logs\n")
        async with FakeEngine() as engine:
            yield engine, NONE_BESIDE

    monkeypatch.setattr(commands, "_engines", engines)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_engine")
def test_an_engine_of_its_own(capfd: pytest.CaptureFixture[str], checkpoint: Path, image: str) -> None:
    asked = ("ask", image, "How many?", "--model", str(checkpoint), "--seed", "3", "--scorer", "likelihood")
    assert main([*asked, "--json"]) == 0
    out, err = capfd.readouterr()
    answer: Json = json.loads(out)
    assert (answer["model"], answer["swires"]["scorer"], err) == (checkpoint.name, "likelihood", "an engine logs\n")
    assert main([*asked, "--policy", "greedy"]) == 0
    assert capfd.readouterr().out.count("\n\n") == 3
