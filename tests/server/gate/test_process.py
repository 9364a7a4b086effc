"""What clients can make a server take: its memory, its files and its connections, counted from outside."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from server.connection import allow_connections
from tests.server.client import chat
from tests.server.gate.cases import BOMBS, data_url
from tests.server.gate.process import LONG, TIMEOUT_S, Process, started
from tests.server.gate.raw import port, post
from tests.server.gate.verbose import at_length

NUM_IDLE = 1000
NUM_UNREAD = 40
MAX_MIB = 100
LIMIT_S = 60


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    with started() as process:
        for _ in range(3):
            answered(process)
        yield process


def answered(process: Process) -> None:
    assert httpx.post(f"{process.url}/v1/chat/completions", json=chat(), timeout=LIMIT_S).status_code == 200


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def connected(process: Process, sent: bytes, *, window: int | None = None) -> socket.socket:
    sock = socket.socket()
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.settimeout(LIMIT_S)
    sock.connect(("127.0.0.1", port(process.url)))
    sock.sendall(sent)
    return sock


def showing(data: bytes) -> dict[str, object]:
    return chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(data)}}]}])


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_would_unpack_to_much(
    process: Process, name: str, record_property: Callable[[str, object], None]
) -> None:
    body = showing(BOMBS[name]())
    process.forget_peak()
    before = process.mib
    with ThreadPoolExecutor(8) as clients:
        posting = [
            clients.submit(httpx.post, f"{process.url}/v1/chat/completions", json=body, timeout=LIMIT_S)
            for _ in range(8)
        ]
        assert {400, 422} >= {each.result().status_code for each in posting}
    record_property("MiB", process.peak_mib - before)
    assert process.peak_mib - before < MAX_MIB


def test_connections_that_ask_nothing(process: Process, record_property: Callable[[str, object], None]) -> None:
    """Silent, or with a head that never ends; more of them than there were files to open."""
    allow_connections()
    before, start = process.num_files, time.monotonic()
    process.forget_peak()
    memory = process.mib
    with ExitStack() as sockets:
        idle = [sockets.enter_context(connected(process, b"")) for _ in range(NUM_IDLE // 2)]
        idle += [sockets.enter_context(connected(process, b"GET / HTTP/1.1\r\nx: ")) for _ in range(NUM_IDLE // 2)]
        asked = time.monotonic()
        answered(process)
        record_property("seconds for an answer", time.monotonic() - asked)
        assert time.monotonic() - start > TIMEOUT_S or process.num_files > before + NUM_IDLE // 2
        until(lambda: process.num_files <= before)
        record_property("MiB", process.peak_mib - memory)
        assert process.peak_mib - memory < MAX_MIB
    answered(process)


def test_answers_that_nobody_reads(process: Process, record_property: Callable[[str, object], None]) -> None:
    """Each is held for as long as a client may take to read it, and no longer."""
    before = process.num_files
    process.forget_peak()
    memory = process.mib
    request = post(chat(messages=at_length(), stream=True, swires={"policy": "greedy"}))
    with ExitStack() as sockets:
        for _ in range(NUM_UNREAD):
            sockets.enter_context(connected(process, request, window=4096))
        answered(process)
        until(lambda: process.num_files <= before)
        per_client = (process.peak_mib - memory) / NUM_UNREAD
        record_property("MiB a client", per_client)
        assert per_client * (1 << 20) < 20 * LONG
    page = httpx.get(f"{process.url}/metrics").text
    assert "swires_active_searches 0.0" in page
    answered(process)
