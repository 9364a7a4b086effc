import asyncio
import base64
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.training.data.annotation_teacher import Answer, Manner, fails, says, teaching
from training.data.annotation.call import Call, Reply
from training.data.annotation.errors import BadImage, Stopped, TeacherFailed, Unanswered
from training.data.annotation.pace import Pace
from training.data.annotation.run import wait_unless
from training.data.annotation.teacher import Teacher, retry_after_s

CALL = Call("judgement", "r", 0, 0, "prompt")
FINE = Reply("fine", "stop", None, 100, 10)


class Clock:
    """Time passes where somebody waits, at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        end = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, end)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def teacher(clock: Clock, tmp_path: Path) -> Callable[..., Teacher]:
    def make(url: str, **options: float | str) -> Teacher:
        pace = Pace(None, clock.wait, clock)
        return Teacher(url, {"model": "m", "seed": 3}, tmp_path, pace, clock.wait, **options)  # type: ignore[arg-type]

    return make


def first(*answers: Answer) -> Manner:
    """These answers in their order, then a good one."""
    left = iter(answers)
    return lambda _: next(left, says("fine"))


async def test_a_request(teacher: Callable[..., Teacher], tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg")
    with teaching(first()) as server:
        async with teacher(server.url + "/", api_key="secret") as asking:
            assert await asking.ask(Call("stages", "r", 0, 0, "prompt", "a.jpg")) == FINE
    (asked,) = server.asked
    assert asked.headers["Authorization"] == "Bearer secret"
    assert (asked.body["model"], asked.body["seed"], asked.prompt) == ("m", 3, "prompt")
    kind, _, data = asked.body["messages"][0]["content"][0]["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == (tmp_path / "a.jpg").read_bytes()


async def test_no_key_no_header(teacher: Callable[..., Teacher]) -> None:
    with teaching(first()) as server:
        async with teacher(server.url) as asking:
            await asking.ask(CALL)
    assert "Authorization" not in server.asked[0].headers


BROKEN = [
    fails(500),
    fails(503, "loading"),
    fails(429),
    Answer(b"<html>gateway</html>"),
    Answer(b'{"error": {"message": "upstream"}}'),
    Answer(b'{"choices": []}'),
    Answer(b'{"choices": [{"message": "text"}]}'),
    Answer(b'{"choices": [{"message": {"content": 5}}]}'),
    Answer(says("fine").body, sent=20),
    Answer(says("fine").body, sent=0),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_may_pass_is_asked_again(teacher: Callable[..., Teacher], clock: Clock, broken: Answer) -> None:
    with teaching(first(broken, broken)) as server:
        async with teacher(server.url, retries=2) as asking:
            assert await asking.ask(CALL) == FINE
    assert 0.5 <= clock.waits[0] <= 1
    assert 1 <= clock.waits[1] <= 2


async def test_a_slow_answer_is_not_waited_for(teacher: Callable[..., Teacher]) -> None:
    with teaching(first(Answer(b"", held=True))) as server:
        async with teacher(server.url, timeout_s=0.2) as asking:
            assert await asking.ask(CALL) == FINE
    assert server.num_held == 1


async def test_retries_come_to_an_end(teacher: Callable[..., Teacher]) -> None:
    with teaching(lambda _: fails(500, "on\n fire")) as server:
        async with teacher(server.url, retries=3) as asking:
            with pytest.raises(Unanswered, match=r"^the teacher answered 500: on fire$") as caught:
                await asking.ask(CALL)
    assert caught.value.reason == "unavailable"
    assert len(server.asked) == 4


async def test_retry_after_holds_for_all_calls(teacher: Callable[..., Teacher], clock: Clock) -> None:
    answers = iter([fails(429, Retry_After="7"), says("fine"), says("fine")])
    with teaching(lambda _: next(answers)) as server:
        async with teacher(server.url) as asking:
            assert await asking.ask(CALL) == FINE
            assert clock.waits == [7]
            asking.pace.pause(5)
            await asking.ask(CALL)
            assert clock.waits == [7, 5]


def test_retry_after_is_read_in_all_its_forms() -> None:
    def read(**headers: str) -> float | None:
        return retry_after_s(httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}))

    assert read(retry_after="1.5") == 1.5
    assert read(retry_after="0") == 0
    assert read(retry_after="-3") == 0
    assert read(retry_after_ms="250", retry_after="1") == 0.25
    assert read(retry_after="soon") is read(retry_after="inf") is read() is None
    later = read(retry_after=format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True))
    assert later is not None
    assert 100 < later <= 120
    assert read(retry_after="Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize(
    "answer", [fails(401, "bad key"), fails(402), fails(404, "no model"), fails(429, "broke", "insufficient_quota")]
)
async def test_what_no_try_would_change_ends_the_run(
    teacher: Callable[..., Teacher], clock: Clock, answer: Answer
) -> None:
    with teaching(lambda _: answer) as server:
        async with teacher(server.url) as asking:
            with pytest.raises(TeacherFailed, match=f"answered {answer.status}"):
                await asking.ask(CALL)
    assert (len(server.asked), clock.waits) == (1, [])


async def test_a_request_that_is_rejected_is_not_asked_again(teacher: Callable[..., Teacher]) -> None:
    with teaching(lambda _: fails(400, "not this one")) as server:
        async with teacher(server.url) as asking:
            with pytest.raises(Unanswered, match="not this one") as caught:
                await asking.ask(CALL)
    assert caught.value.reason == "rejected"
    assert len(server.asked) == 1


async def test_nobody_there(teacher: Callable[..., Teacher], clock: Clock) -> None:
    with teaching(first()) as server:
        url = server.url
    async with teacher(url) as asking:
        with pytest.raises(TeacherFailed, match=f"^cannot reach {url}"):
            await asking.ask(CALL)
    assert clock.waits == []


async def test_a_teacher_that_goes_away_may_come_back(teacher: Callable[..., Teacher], clock: Clock) -> None:
    last = replace(says("fine"), headers={"Connection": "close"})
    with teaching(lambda _: last) as server:
        async with teacher(server.url, retries=2) as asking:
            assert await asking.ask(CALL) == FINE
            server.shutdown()
            server.server_close()
            with pytest.raises(Unanswered, match="the connection broke") as caught:
                await asking.ask(CALL)
    assert caught.value.reason == "unavailable"
    assert len(clock.waits) == 2


@pytest.mark.parametrize("usage", ["null", "[]", '{"prompt_tokens": "many"}'])
async def test_a_paid_answer_counts_whatever_its_usage(teacher: Callable[..., Teacher], usage: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "fine"}}}}], "usage": {usage}}}'.encode()
    with teaching(first(Answer(body))) as server:
        async with teacher(server.url) as asking:
            assert await asking.ask(CALL) == Reply("fine")


async def test_other_formats_go_out_as_png(teacher: Callable[..., Teacher], tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.bmp")
    with teaching(first()) as server:
        async with teacher(server.url) as asking:
            await asking.ask(Call("stages", "r", 0, 0, "prompt", "a.bmp"))
    url = server.asked[0].body["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


async def test_pictures_that_are_none(teacher: Callable[..., Teacher], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (30, 20)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-30])
    reasons = {
        "absent.png": "missing",
        "../x.png": "outside_folder",
        "": "missing",
        "a\0": "missing",
        "text.png": "unreadable",
    }
    reasons["a" * 300] = "missing"
    (tmp_path.parent / "x.png").write_bytes((tmp_path / "whole.png").read_bytes())
    async with teacher("http://127.0.0.1:1/v1") as asking:
        for name, reason in {**reasons, "cut.png": "unreadable"}.items():
            with pytest.raises(BadImage) as caught:
                await asking.ask(Call("stages", "r", 0, 0, "prompt", name))
            assert caught.value.reason == f"image_{reason}"


async def test_the_pace_spreads_requests(clock: Clock) -> None:
    pace, went = Pace(120, clock.wait, clock), []

    async def go() -> None:
        await pace.turn()
        went.append(clock.now - 1000)

    await asyncio.gather(*(go() for _ in range(3)))
    pace.pause(10)
    await asyncio.gather(*(go() for _ in range(2)))
    assert went == [0, 0.5, 1, 11, 11.5]


async def test_a_wait_ends_with_the_run() -> None:
    stopping = asyncio.Event()
    waiting = asyncio.ensure_future(wait_unless(stopping)(3600))
    await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(Stopped):
        await waiting
    await wait_unless(asyncio.Event())(0.001)
