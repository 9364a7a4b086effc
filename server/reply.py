"""How one request is answered in the shapes of an API."""

from collections.abc import AsyncGenerator, Iterable
from typing import ClassVar, Protocol

from server.errors import Failure
from server.facts import Json
from swires.estimate import Estimate
from swires.events import Event
from swires.result import SearchResult
from swires.types import Problem


class Reply(Protocol):
    last: ClassVar[bytes]
    """Ends a stream, after its last chunk."""

    def whole(self, result: SearchResult) -> Json: ...

    def chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Json, None]:
        """Together they tell what `whole` tells; closing them closes `events`."""
        ...

    def failed(self, failure: Failure) -> Iterable[Json]:
        """The last chunks of a stream that has failed."""
        ...

    def dry_run(self, problem: Problem, estimate: Estimate) -> Json: ...

    def dry_chunks(self, problem: Problem, estimate: Estimate) -> AsyncGenerator[Json, None]: ...
