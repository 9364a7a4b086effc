"""What the clients of a soak do: search in all ways, send what is wrong, and hang up wherever they are."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from typing import Any, TypeAlias

import aiohttp
from yarl import URL

from tests.server.gate.cases import CASES

Json: TypeAlias = dict[str, Any]

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HEADERS = {"Content-Type": "application/json"}
KINDS = {"search": 0.7, "wrong": 0.15, "hang_up": 0.15}
POLICIES = ("swires", "adaptive", "stage_beam", "sentence_beam", "best_of_n", "greedy")
MEAN_PATIENCE_S = 0.2
ANSWER_S = 300
MOST_TOLD = 20


@dataclass(slots=True)
class Load:
    """What is asked of the server at `host`:`port`, and what has come of it; `unlike` is what should not have."""

    host: str
    port: int
    questions: Sequence[Mapping[str, str]]
    chance: Random
    may_fail: bool
    outcomes: Counter[str] = field(default_factory=Counter)
    unlike: list[str] = field(default_factory=list)

    @property
    def num_answered(self) -> int:
        return self.outcomes["answered"] + self.outcomes["streamed"]

    async def burst(self, num_clients: int) -> None:
        """All at once, each on a connection of its own."""
        async with self._session() as session, asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(self._visit(session))

    async def steady(self, num_clients: int, until_answered: int) -> None:
        """Each client comes again as soon as it is answered."""

        async def client() -> None:
            while self.num_answered < until_answered:
                await self._visit(session)

        async with self._session() as session, asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(client())

    def _session(self) -> aiohttp.ClientSession:
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(ANSWER_S)
        return aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        (kind,) = self.chance.choices(list(KINDS), list(KINDS.values()))
        try:
            if kind == "search":
                await self._search(session)
            elif kind == "wrong":
                await self._wrong(session)
            else:
                await self._hang_up()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._note(f"{kind}: {type(error).__name__} {error}")

    async def _search(self, session: aiohttp.ClientSession) -> None:
        path, body = self._body()
        async with session.post(self._url(path), json=body, headers=HEADERS) as answer:
            text = await answer.text()
        if answer.status == 503 and "Retry-After" in answer.headers:
            self.outcomes["refused"] += 1
        elif self._failed(text):
            self.outcomes["failed_as_told"] += 1
        elif answer.status == 200 and _is_whole(path, text, stream=bool(body["stream"])):
            self.outcomes["streamed" if body["stream"] else "answered"] += 1
        else:
            self._note(f"{path} {json.dumps(body)[-300:]}: {answer.status} {text[-300:]}")

    async def _wrong(self, session: aiohttp.ClientSession) -> None:
        case = self.chance.choice(CASES)
        async with session.post(self._url(case.path), data=BytesIO(case.body), headers=case.headers) as answer:
            text = await answer.text()
        if answer.status in (case.status, 503) or (case.status == 200 and self._failed(text)):
            self.outcomes["wrong_as_told"] += 1
        else:
            self._note(f"case {case}: {answer.status} {text[:300]}")

    async def _hang_up(self) -> None:
        """Before, while or after it has asked, or while it reads."""
        path, body = self._body()
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        whole = head.encode() + data
        sent = whole if self.chance.random() < 0.7 else whole[: self.chance.randrange(len(whole))]
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                writer.write(sent)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.chance.expovariate(1 / MEAN_PATIENCE_S)):
                        await reader.read(self.chance.randrange(1, 2000))
                        await asyncio.sleep(self.chance.expovariate(1 / MEAN_PATIENCE_S))
            finally:
                if self.chance.random() < 0.5:
                    writer.transport.abort()
                writer.close()
        self.outcomes["hung_up"] += 1

    def _body(self) -> tuple[str, Json]:
        """A search that is as it should be."""
        chance, question = self.chance, self.chance.choice(self.questions)
        options: Json = {
            "policy": chance.choice(POLICIES),
            "preset": chance.choice(["fast", "balanced"]),
            "events": chance.random() < 0.2,
            "trace": chance.random() < 0.2,
            "raw": chance.random() < 0.1,
        }
        common = {
            "model": "demo",
            "stream": chance.random() < 0.5,
            "seed": chance.choice([None, chance.randrange(2**31)]),
            "temperature": chance.choice([None, 0, 1]),
            "swires": options,
        }
        if chance.random() < 0.25:
            image = {"type": "input_image", "image_url": question["image"]}
            parts = [image, {"type": "input_text", "text": question["question"]}]
            return RESPONSES, {"input": [{"role": "user", "content": parts}], **common}
        return CHAT, {**self._chat(question, raw=options["raw"]), **common}

    def _chat(self, question: Mapping[str, str], *, raw: bool) -> Json:
        chance = self.chance
        text = {"type": "text", "text": question["question"]}
        image = {"type": "image_url", "image_url": {"url": question["image"]}}
        of_content: Json = {} if raw else {"stop": chance.choice([None, ".", "1"]), "logprobs": chance.random() < 0.2}
        return {
            "messages": [{"role": "user", "content": [image, text] if chance.random() < 0.9 else [text]}],
            "n": chance.choice([1, 1, 1, 2]),
            "max_tokens": chance.choice([None, None, None, chance.randrange(1, 200)]),
            "response_format": chance.choice([None, None, None, {"type": "json_object"}]),
            **of_content,
        }

    def _failed(self, text: str) -> bool:
        """Whether the engine has, as it does at times, and this was told."""
        return self.may_fail and '"engine_error"' in text

    def _url(self, path: str) -> URL:
        return URL(f"http://{self.host}:{self.port}{path}", encoded=True)

    def _note(self, told: str) -> None:
        self.outcomes["unlike"] += 1
        if len(self.unlike) < MOST_TOLD:
            self.unlike.append(told)


def _is_whole(path: str, text: str, *, stream: bool) -> bool:
    """Whether it is an answer with an end."""
    if path == RESPONSES:
        told = json.loads(text.strip().rpartition("\ndata: ")[2]) if stream else {"response": json.loads(text)}
        return told["response"]["status"] in ("completed", "incomplete")
    return text.endswith("data: [DONE]\n\n") and '"error"' not in text if stream else "choices" in json.loads(text)
