"""The other end of `processes.Child`: answers lines of JSON with lines of JSON. Standard library only."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TextIO

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
LINE_LIMIT = 1 << 24


def claimed_output() -> TextIO:
    """Standard output for the answers alone: what libraries and their processes print goes to standard error. To be
    called before they print."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


async def answer_lines(answer: Answer, out: TextIO) -> None:
    """Answer all lines of standard input, as many at once as there are; until its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def one(line: bytes) -> None:
        request = json.loads(line)
        try:
            told = await answer(request)
        except Exception as error:  # noqa: BLE001  told to who asked
            told = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps({"id": request["id"], **told}) + "\n")
        out.flush()

    async with asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            tasks.create_task(one(line))
