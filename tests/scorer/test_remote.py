import logging
import socket

import pytest
from pydantic import BaseModel, Field, FiniteFloat

from server.scorer.remote import connected, together
from swires.errors import ScorerError
from tests.scorer.loopback import FAULTS, http, loopback, ok

KEY = "sk-secret-1"


class Reply(BaseModel):
    class Label(BaseModel):
        probs: list[FiniteFloat]

    data: list[Label] = Field(min_length=1)


async def test_a_reply_is_read_and_the_key_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with loopback(lambda body: ok({"data": [{"probs": [0.5]}]})) as server:
        for key, sent in ((KEY, True), (None, False)):
            async with connected("model", f"{server.url}/v1", timeout_s=30, key=key) as remote:
                reply = await remote.post("classify", {"a": 1}, Reply)
            assert reply.data[0].probs == [0.5]
            assert (server.asked[-1].path, server.asked[-1].body) == ("/v1/classify", {"a": 1})
            assert (f"Authorization: Bearer {KEY}" in server.asked[-1].head) is sent
    assert caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_one_line(fault: str) -> None:
    reply, told = FAULTS[fault]
    async with (
        loopback(lambda body: reply) as server,
        connected("model", server.url, timeout_s=0.05 if reply is None else 30) as remote,
    ):
        with pytest.raises(ScorerError) as failed:
            await remote.post("classify", {}, Reply)
    assert str(failed.value).startswith("the model ")
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with connected("model", url, timeout_s=30) as remote:
        with pytest.raises(ScorerError, match="the model does not answer: All connection attempts failed"):
            await remote.post("classify", {}, Reply)


async def test_a_key_that_is_told_back_goes_no_further() -> None:
    async with (
        loopback(lambda body: http("401 Unauthorized", f"no such key: {KEY}")) as server,
        connected("model", server.url, timeout_s=30, key=KEY) as remote,
    ):
        with pytest.raises(ScorerError, match=r"answers 401: no such key: \*\*\*$"):
            await remote.post("classify", {}, Reply)


async def test_together_keeps_order_and_ends_all_at_the_first_failure() -> None:
    async def number(value: int) -> int:
        return value

    assert await together(map(number, range(3))) == [0, 1, 2]
    async with loopback(lambda body: None if body["waits"] else http("500 Oh", "")) as server:
        async with connected("model", server.url, timeout_s=30) as remote:
            with pytest.raises(ScorerError, match="answers 500"):
                await together(remote.post("", {"waits": waits}, Reply) for waits in (True, True, False))
        await server.left.wait()
