"""A question as a client puts it to a server: the request, and what is answered, whole or as it comes."""

import base64
import re
import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.images import FORMATS
from server.schemas import Int64
from server.settings import AskSettings, PolicyName, PresetName
from swires.errors import SwiresError

Json: TypeAlias = dict[str, Any]

NO_IMAGE = "-"
CONNECT_S = 10
SILENCE_S = 60
"""How long a stream may be silent; the server sends a comment every 15 seconds at least."""

CHAT = "/v1/chat/completions"
CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")


class AskError(SwiresError):
    """Why there is no answer, in one line."""


class Asking(BaseModel):
    """What is asked and how; what is None is left to the server."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    image: str
    question: str
    preset: PresetName | None = Field(None, description="how much search")
    policy: PolicyName | None = Field(None, description="search policy")
    scorer: str | None = Field(None, description="one of those that the server offers")
    temperature: float | None = Field(None, ge=0, le=2, description="of sampling; 0 is repeatable")
    seed: Int64 | None = Field(None, description="makes the answer repeatable")

    def request(self, *, live: bool, trace: bool) -> Json:
        """The request, but for the model; `live` is one for `Remote.chunks`. Raises AskError about the image."""
        image = [] if self.image == NO_IMAGE else [_image_part(Path(self.image))]
        content = [*image, {"type": "text", "text": self.question}]
        search = {"preset": self.preset, "policy": self.policy, "scorer": self.scorer, "trace": trace}
        return {
            "messages": [{"role": "user", "content": content}],
            "stream": live,
            "temperature": self.temperature,
            "seed": self.seed,
            "swires": {**search, "events": live, "raw": live},
        }


def _image_part(path: Path) -> Json:
    data = _read(path)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # how large it may be is for the server to say
            Image.open(BytesIO(data), formats=tuple(FORMATS.values())) as image,
        ):
            media_type = Image.MIME[str(image.format)]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AskError(f"{path}: is no image that can be read: {', '.join(FORMATS.values())}") from error
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{base64.b64encode(data).decode()}"}}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AskError(f"{path}: {error.strerror}") from error


@asynccontextmanager
async def connected(settings: AskSettings) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the server; a URL that ends in /v1, as OpenAI's clients have it, is taken too."""
    url = str(settings.url).rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        yield client


class Remote:
    """A server as `client` reaches it. Every failure is raised as AskError."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def model(self) -> str:
        """The first of its names."""
        with self._translated():
            response = await self._client.get("/v1/models", timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S))
            _check(response)
            return _Models.model_validate_json(response.content).data[0].id

    async def answer(self, request: Json) -> Json:
        """The whole answer; the server's own limit is the only one to its time."""
        with self._translated():
            response = await self._client.post(CHAT, json=request, timeout=httpx.Timeout(None, connect=CONNECT_S))
            _check(response)
            answer: Json = response.json()
            return answer

    async def chunks(self, request: Json) -> AsyncGenerator["Chunk", None]:
        """Those of a streamed answer; closing this hangs up."""
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        with self._translated():
            async with self._client.stream("POST", CHAT, json=request, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                _check(response)
                async with aclosing(_data(response)) as data:
                    async for each in data:
                        yield _checked(Chunk.model_validate_json(each))

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise AskError(f"no server answers at {self._client.base_url}") from error
        except httpx.TimeoutException as error:
            raise AskError("the server is silent") from error
        except httpx.HTTPError as error:
            raise AskError("the server broke off") from error
        except UnicodeEncodeError as error:
            raise AskError("what is asked is not text in UTF-8") from error
        except ValueError as error:  # of JSON, and what is not in it
            raise AskError("the server answers what is not of OpenAI's API") from error


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model] = Field(min_length=1)


class _Error(BaseModel):
    message: str


class _Refusal(BaseModel):
    error: _Error


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta


class Chunk(BaseModel):
    """Of a stream with one choice: more text, or what the search tells."""

    choices: list[_Choice]
    swires: dict[str, Any] = {}
    error: _Error | None = None

    @property
    def content(self) -> str:
        return "".join(choice.delta.content or "" for choice in self.choices)


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        raise AskError(one_line(_Refusal.model_validate_json(response.content).error.message))
    except ValidationError:
        raise AskError(f"the server answers with status {response.status_code}") from None


def _checked(chunk: Chunk) -> Chunk:
    if chunk.error is not None:
        raise AskError(one_line(chunk.error.message))
    return chunk


async def _data(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The events of a stream up to [DONE]; httpx would also end lines within an event, at U+2028."""
    rest = b""
    async for received in response.aiter_bytes():
        *lines, rest = (rest + received).split(b"\n")
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"data" and value.strip() == b"[DONE]":
                return
            if field == b"data":
                yield value
    raise AskError("the server broke off")


def printable(text: str) -> str:
    """Without what would steer a terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))
