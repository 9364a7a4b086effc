"""Files that hold a search that is over: the answer with its trace, and the request that it answers."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from server import images
from server.checkpoint import StageName
from server.errors import Refused, invalid
from server.images import ImageLimits
from server.schemas import ChatRequest
from server.settings import MIB, PolicyName, Settings
from swires.errors import SwiresError
from swires.policies import POLICIES
from swires.result import Fate, Node
from swires.types import Candidate, FinishReason


class StoredError(SwiresError):
    """A file does not hold what is to be read from it."""


class _Part(BaseModel):
    """Of an answer, of which more is told than is read here."""

    model_config = ConfigDict(frozen=True)


class StoredNode(_Part):
    id: int
    parent: int | None
    stage: StageName
    text: str
    tokens: int = Field(ge=0)
    finish_reason: FinishReason
    logprob: float | None
    score: float | None
    fate: Fate

    def node(self, encode: Callable[[str], tuple[int, ...]] | None) -> Node:
        """Its ids are encoded from its text, or stand for so many."""
        ids = (0,) * self.tokens if encode is None else encode(self.text)
        candidate = Candidate(self.id, self.stage, self.text, ids, self.finish_reason, self.logprob)
        return Node(candidate, self.parent, self.score, self.fate)


class StoredBudget(_Part):
    max_generations: int = Field(ge=1)


class StoredSearch(_Part):
    """The `swires` object of an answer."""

    policy: PolicyName
    numbers: dict[str, bool | int | float | None]
    budget: StoredBudget
    scorer: str
    score: float | None
    accepted: bool | None
    stopped_by: str | None
    trace: tuple[StoredNode, ...] | None

    def nodes(self, encode: Callable[[str], tuple[int, ...]] | None = None) -> list[Node]:
        return [node.node(encode) for node in self.trace or ()]


def read_search(path: Path) -> StoredSearch:
    """From an answer or its `swires` object, as JSON. Raises StoredError in one line."""
    answer = _json(path)
    try:
        search = StoredSearch.model_validate(answer.get("swires", answer))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise StoredError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for complaint in _complaints(search):
        raise StoredError(f"{path}: {complaint}")
    return search


def _complaints(search: StoredSearch) -> Iterator[str]:
    if not search.trace:
        yield 'holds no tree: ask with "swires": {"trace": true}'
    if strange := search.numbers.keys() - {field.name for field in fields(POLICIES[search.policy])}:
        yield f"numbers: the policy {search.policy} has no {min(strange)}"
    seen = set[int | None]({None})
    for node in search.trace or ():
        if node.parent not in seen or node.id in seen:
            yield f"trace: candidate {node.id} does not come once, after its parent"
        seen.add(node.id)


def _json(path: Path) -> dict[str, object]:
    try:
        value = from_json(path.read_bytes())
    except OSError as error:
        raise StoredError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StoredError(f"{path}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise StoredError(f"{path}: is no JSON object")
    return value


def read_request(path: Path) -> ChatRequest:
    """A request as it was sent. Raises StoredError in one line."""
    body = _json(path)
    try:
        return ChatRequest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoredError(f"{path}: {invalid(error, body)}") from error


async def load_images(chat: ChatRequest, settings: Settings) -> list[Image]:
    """Those of a request that was read, within the limits of `settings`. Raises StoredError in one line."""
    limits = ImageLimits(settings.max_images, settings.max_image_mib * MIB, settings.max_image_pixels)
    try:
        return await images.load(list(chat.images()), limits)
    except Refused as error:
        raise StoredError(f"the request: {error.param}: {error}") from error
