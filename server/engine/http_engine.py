"""The engine on other machines: one vLLM server, or many behind a router, asked over HTTP for tokens by tokens.

Every request of a search carries the search's key in a header, so that vllm-router's `consistent_hash` sends all of
them to the one replica that has its prefixes cached. What a lost replica has not handed on is sampled again on another.
The servers need `--enable-scale-out`, for the routes that take and give token ids. Written against vLLM 0.32.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
from PIL.Image import Image
from tokenizers import Tokenizer

from server import sample
from server.checkpoint import CheckpointError, load
from server.engine.labels import LabelRead
from server.engine.merge import gathered
from server.engine.messages import check_length, plain
from server.engine.plain_text import BREAK, PlainText, unbroken
from server.engine.sampling_params import sampling_params
from server.engine.structure import PASSED_OVER, bounds_strings, structural_tag, uses
from server.engine.tags import closing_ids
from server.engine.tokens import following
from server.engine.writing import End, Likely, Writing, side_by_side
from server.images import data_url
from server.span import trace_headers
from swires.errors import EngineError, InvalidPlan
from swires.protocols import Chunk
from swires.stages import Stage
from swires.types import Problem, Sampling

SEARCH_KEY = "X-Session-ID"
"""The header that vllm-router hashes first."""

MAX_LOGPROBS = 19
"""vLLM's own limit is 20, one of which goes to the sampled token."""

BACK_OFF_S = (0.1, 0.5, 1, 2, 4)
"""Before a request is sent again: longer than a router needs to find that a replica is gone."""

TIMEOUT = httpx.Timeout(30, read=120, pool=None)
"""A read may wait for the replica's queue."""

UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=64)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is sent, once; a replica that has it knows it by its `name`."""

    url: str = field(repr=False)
    name: str

    def part(self, *, whole: bool) -> dict[str, str | None]:
        return {"type": "image_url", "url": self.url if whole else None, "uuid": self.name}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the servers take it: a token for each image, which they expand, and how many tokens there are then.
    `key` is the search's."""

    key: str
    token_ids: tuple[int, ...]
    num_tokens: int
    pictures: tuple[Picture, ...]
    cache_salt: str | None = None

    def apart(self, cache_salt: str | None) -> "Rendered":
        """Known to the servers' caches, of keys and values and of images, under names that others do not have."""
        if cache_salt is None:
            return self
        pictures = (replace(picture, name=f"{cache_salt}-{picture.name}") for picture in self.pictures)
        return replace(self, pictures=tuple(pictures), cache_salt=cache_salt)

    def then(self, prefix: Sequence[int]) -> "Rendered":
        return replace(self, token_ids=(*self.token_ids, *prefix), num_tokens=self.num_tokens + len(prefix))


@dataclass(frozen=True, slots=True)
class Part:
    """What one event of an answer tells of a candidate; of `logprobs` one for each id. The counts come with the end."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Likely, ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    num_cached_tokens: int = 0


class Lost(Exception):
    """A request whose replica is gone, or out of order; another one may answer it."""


class Refused(Exception):
    """A request that the server finds wrong."""


class HttpEngine:
    """An async context manager: entering asks the server at `url` what it serves, which must be the checkpoint `model`,
    whose tokenizer is read here; leaving hangs up.

    Entering raises EngineError when there is no such server, CheckpointError when the tokenizer is not what the
    checkpoint promises.
    """

    def __init__(
        self, model: str, url: str, *, key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`key` is the server's API key. Raises CheckpointError when the model's swires.json is wrong."""
        self._model = model
        self._checkpoint = load(model)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=TIMEOUT, limits=UNLIMITED, transport=transport
        )
        self.max_logprobs = MAX_LOGPROBS
        self.num_running = 0
        self.alive = False

    async def __aenter__(self) -> Self:
        self._tokenizer = await asyncio.to_thread(_tokenizer, self._model)
        self._closing_ids = closing_ids(self._checkpoint, self.encode)
        self._plain_text = PlainText(str(token) for token in self._tokenizer.get_added_tokens_decoder().values())
        self._break_ids = following(BREAK, encode=self.encode)
        await self._client.__aenter__()
        try:
            await self._meet()
        except BaseException as error:
            await self._client.aclose()
            if isinstance(error, Lost | Refused | KeyError | ValueError):
                raise EngineError(f"the engine did not start: {error}", dead=True) from error
            raise
        self.alive = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.alive = False
        await self._client.aclose()

    async def _meet(self) -> None:
        served = (await self._asked("GET", "/v1/models"))["data"][0]
        self._served_name, self.max_model_len = str(served["id"]), int(served["max_model_len"])
        self.version = f"vllm {(await self._asked('GET', '/version'))['version']} over HTTP"
        self._image_id = await self._find_image_id()

    async def _find_image_id(self) -> int | None:
        """The token that stands for an image until it is expanded, None for a model that sees none."""
        picture = _picture(sample.image())
        try:
            told = await self._rendered_there(uuid4().hex, [{"role": "user", "content": [_part(picture)]}])
        except Refused:
            return None
        (place,), ids = _places(told), told["token_ids"]
        start, end = place
        for token in sorted(set(ids[start:end]), key=ids[start:end].count, reverse=True):
            prompt = Rendered(uuid4().hex, (*ids[:start], token, *ids[end:]), len(ids), (picture,))
            body = self._body(prompt, {"max_tokens": 1, "temperature": 0}, whole=True) | {"return_token_ids": True}
            try:
                answer = await self._asked("POST", "/inference/v1/generate", body)
            except Refused:
                continue
            if answer["prompt_token_ids"] == ids:
                return int(token)
        raise EngineError("the engine did not start: of this model no image can be sent with tokens", dead=True)

    async def render(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> Problem:
        """See `server.serving_engine.ServingEngine`. What reads like a special token or a stage tag stays text."""
        if images and self._image_id is None:
            raise InvalidPlan("the model sees no images", field="messages")
        pictures = [await asyncio.to_thread(_picture, image) for image in images]
        remaining = map(_part, pictures)
        chat = [plain(message, self._plain_text, partial(next, remaining)) for message in messages]
        key = uuid4().hex
        try:
            told = await self._persisted(self._rendered_there, key, chat)
            prompt = self._prompt(key, told, json.dumps(chat, ensure_ascii=False).count(BREAK), tuple(pictures))
        except (Refused, ValueError) as error:
            raise InvalidPlan(f"the model cannot take these messages: {error}", field="messages") from error
        check_length(prompt.num_tokens, self.max_model_len)
        return Problem(prompt, prompt.num_tokens)

    def _prompt(self, key: str, told: Mapping[str, Any], num_breaks: int, pictures: tuple[Picture, ...]) -> Rendered:
        """What breaks special tokens is taken out again, and so is what stands for an image but for one token."""
        ids: list[int] = told["token_ids"]
        kept = unbroken(ids, self._break_ids, num_breaks)
        inside = {index: start for start, end in _places(told) for index in range(start, end)}
        token_ids = [
            ids[index] if index not in inside or self._image_id is None else self._image_id
            for index in kept
            if inside.get(index, index) == index
        ]
        return Rendered(key, tuple(token_ids), len(kept), pictures)

    async def _rendered_there(self, key: str, chat: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        body = {"model": self._served_name, "messages": chat, "max_completion_tokens": 1, "mm_payload": "none"}
        return await self._asked("POST", "/v1/chat/completions/render", body, key)

    def generate(
        self, problem: Problem, prefix: tuple[int, ...], *, stage: Stage, n: int, sampling: Sampling, live: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """See `swires.protocols.Engine`. Each candidate is a request of its own, so that it can finish by itself."""
        prompt = _rendered(problem).then(prefix)
        room = self.max_model_len - prompt.num_tokens

        def sample(index: int) -> AsyncGenerator[Chunk, None]:
            return self._sample(prompt, stage, sampling, index, room, live=live, fresh=not prefix and index == 0)

        return side_by_side(n, room, sample)

    def _params(self, stage: Stage, sampling: Sampling, index: int, room: int, live: bool) -> dict[str, Any]:
        closing_id = self._closing_ids[stage]
        params = sampling_params(stage, sampling, index, room=room, live=live, closing_id=closing_id)
        asked = params["logprobs"]
        return {**params, "logprobs": None if asked is None else asked + 1}

    async def check_schema(self, schema: str) -> None:
        """See `server.serving_engine.ServingEngine`. More is refused than by vLLM here: what the servers would pass
        over is not asked for."""
        asked = json.loads(schema)
        params = {"max_tokens": 1, "structured_outputs": {"structural_tag": structural_tag(schema)}}
        prompt = Rendered(uuid4().hex, self.encode("?"), 1, ())
        try:
            if bounds_strings(asked) or uses(asked, PASSED_OVER):
                raise Refused("it would be passed over")
            await self._persisted(self._asked, "POST", "/inference/v1/generate", self._body(prompt, params, whole=True))
        except Refused as error:
            raise InvalidPlan("the schema cannot be kept to", field="json_schema") from error

    async def _sample(
        self, prompt: Rendered, stage: Stage, sampling: Sampling, index: int, room: int, *, live: bool, fresh: bool
    ) -> AsyncGenerator[Chunk, None]:
        """One candidate: its ids as they come, with `live` their text too, else all text at the end."""
        params = self._params(stage, sampling, index, room, live)
        writing = Writing(
            index, prompt.token_ids[-1], self.encode, self.decode, sampling, live=live, may_stop=bool(params["stop"])
        )
        part = Part()
        async with aclosing(self._parts(prompt, params, writing, fresh=fresh)) as parts:
            async for part in parts:
                writing.take(part.token_ids, part.logprobs)
                if part.finish_reason is None and (chunk := writing.begun()):
                    yield chunk
        end = End.told(part.finish_reason, part.stop_reason, self._closing_ids[stage], writing.through)
        yield writing.last(end, prompt.num_tokens, min(part.num_cached_tokens, prompt.num_tokens))

    async def _parts(
        self, prompt: Rendered, params: Mapping[str, Any], writing: Writing, *, fresh: bool
    ) -> AsyncGenerator[Part, None]:
        """What a candidate consists of, from as many requests as it takes: one that is lost is followed by another that
        goes on from what was handed on. Where that was part of a structure, which has to begin at its beginning, there
        is no other."""
        for back_off_s in (*BACK_OFF_S, None):
            begun = tuple(writing.ids)
            rest = {**params, "max_tokens": params["max_tokens"] - len(begun)}
            try:
                async with aclosing(self._streamed(prompt.then(begun), rest, fresh=fresh)) as parts:
                    async for part in parts:
                        yield part
                return
            except Refused as error:
                raise EngineError("the engine refused a request") from error
            except Lost as error:
                if back_off_s is None or (params["structured_outputs"] and writing.num_sent):
                    raise EngineError("the engine failed on a request") from error
                writing.rewind()
                await asyncio.sleep(back_off_s)

    async def _streamed(
        self, prompt: Rendered, params: Mapping[str, Any], *, fresh: bool
    ) -> AsyncGenerator[Part, None]:
        """One request. Only a `fresh` one, a search's first, takes the images along; a replica that lacks them refuses
        the others, which are then sent with them. Raises Lost, Refused."""
        for whole in (True,) if fresh or not prompt.pictures else (False, True):
            body = self._body(prompt, params, whole=whole)
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            try:
                async with aclosing(self._events(body, prompt.key)) as events:
                    async for part in _read(events):
                        yield part
                return
            except Refused:
                if whole:
                    raise

    def _body(self, prompt: Rendered, params: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
        pictures = [picture.part(whole=whole) for picture in prompt.pictures]
        images = {"content_parts": pictures} if pictures else {}
        salt = {} if prompt.cache_salt is None else {"cache_salt": prompt.cache_salt}
        given = {name: value for name, value in params.items() if value is not None}
        return {"model": self._served_name, "token_ids": prompt.token_ids, "sampling_params": given, **images, **salt}

    async def _events(self, body: Mapping[str, Any], key: str) -> AsyncGenerator[dict[str, Any], None]:
        self.num_running += 1
        try:
            request = self._client.stream("POST", "/inference/v1/generate", json=body, headers=_headers(key))
            async with request as response:
                if not response.is_success:
                    await response.aread()
                    _check(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        yield json.loads(line.removeprefix("data: "))
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise Lost(str(error) or type(error).__name__) from error
        finally:
            self.num_running -= 1

    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """The answer to one request that is not streamed. Raises Lost, Refused."""
        self.num_running += 1
        try:
            response = await self._client.request(method, path, json=body, headers=_headers(key))
            _check(response)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise Lost(str(error) or type(error).__name__) from error
        finally:
            self.num_running -= 1
        return answer

    async def _persisted(self, ask: Any, *arguments: Any) -> dict[str, Any]:
        """Of `ask`, again where a replica is lost. Raises EngineError when all are, Refused."""
        for back_off_s in (*BACK_OFF_S, None):
            try:
                answer: dict[str, Any] = await ask(*arguments)
            except Lost as error:
                if back_off_s is None:
                    raise EngineError("the engine failed on a request") from error
                await asyncio.sleep(back_off_s)
            else:
                return answer
        raise AssertionError

    async def read_labels(
        self, problem: Problem, prefixes: Sequence[tuple[int, ...]], labels: tuple[int, ...]
    ) -> tuple[LabelRead, ...]:
        """See `server.engine.labels.LabelReader`."""
        prompt = _rendered(problem)
        return await gathered([self._read_labels(prompt.then(prefix), labels) for prefix in prefixes])

    async def _read_labels(self, prompt: Rendered, labels: tuple[int, ...]) -> LabelRead:
        """The answer tells as many tokens as are asked for, the sampled one first: so one more is asked for."""
        asked = [*labels, labels[-1]]
        params = {
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": len(asked),
            "logprob_token_ids": asked,
            "detokenize": False,
            "structured_outputs": None,
        }
        writing, part = Writing(0, prompt.token_ids[-1], self.encode, self.decode, Sampling()), Part()
        async with aclosing(self._parts(prompt, params, writing, fresh=False)) as parts:
            async for part in parts:
                writing.take(part.token_ids, part.logprobs)
        told = dict(writing.logprobs[0][1])
        logprobs = tuple(told[label] for label in labels)
        return LabelRead(logprobs, prompt.num_tokens, min(part.num_cached_tokens, prompt.num_tokens))

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of `text`, nothing added."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, tags and all."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


async def _read(events: AsyncIterator[Mapping[str, Any]]) -> AsyncGenerator[Part, None]:
    """The parts of one candidate; its last one has the counts that come after it. Raises Lost where it has none."""
    last: Part | None = None
    async for event in events:
        if "error" in event:
            raise Lost(str(event["error"]))
        for choice in event["choices"]:
            logprobs = map(_likely, (choice.get("logprobs") or {}).get("content") or ())
            part = Part(
                tuple(choice["token_ids"] or ()), tuple(logprobs), choice["finish_reason"], choice["stop_reason"]
            )
            if part.finish_reason is None:
                yield part
            else:
                last = part
        details = (event.get("usage") or {}).get("prompt_tokens_details") or {}
        if last is not None and details:
            last = replace(last, num_cached_tokens=details.get("cached_tokens") or 0)
    if last is None or last.finish_reason not in ("stop", "length"):
        raise Lost("the answer has no end")
    yield last


def _likely(told: Mapping[str, Any]) -> Likely:
    return told["logprob"], [(each["token_id"], each["logprob"]) for each in told["top_logprobs"]]


def _headers(key: str | None) -> dict[str, str]:
    return {**trace_headers(), **({SEARCH_KEY: key} if key else {})}


def _check(response: httpx.Response) -> None:
    """Raises Lost where the same request may find another answer, Refused where not."""
    if response.is_success:
        return
    detail = " ".join(response.text.split())[:200]
    if response.status_code >= 500 or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Lost(f"{response.status_code}: {detail}")
    raise Refused(f"{response.status_code}: {detail}")


def _places(told: Mapping[str, Any]) -> list[tuple[int, int]]:
    """From where to where the images stand in a rendered prompt."""
    ranges = ((told.get("features") or {}).get("mm_placeholders") or {}).get("image", ())
    return [(each["offset"], each["offset"] + each["length"]) for each in ranges]


def _picture(image: Image) -> Picture:
    url = data_url(image)
    return Picture(url, sha256(url.encode()).hexdigest())


def _part(picture: Picture) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": picture.url}}


def _rendered(problem: Problem) -> Rendered:
    assert isinstance(problem.prompt, Rendered)
    return problem.prompt.apart(problem.cache_salt)


def _tokenizer(model: str) -> Tokenizer:
    from huggingface_hub import hf_hub_download  # which a directory need not wait for

    try:
        folder = Path(model)
        path = folder / "tokenizer.json" if folder.is_dir() else hf_hub_download(model, "tokenizer.json")
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers has no narrower one
        raise CheckpointError(f"{model}: tokenizer.json cannot be read: {error}") from error
