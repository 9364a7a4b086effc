"""What is timed, for code that need not know whether anybody looks: where nothing is traced, nothing happens here."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | bool | int | float | Sequence[str] | None]
"""Without what is None."""

NOTHING: Attributes = {}


class Span(Protocol):
    @property
    def trace_id(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """W3C's trace context, for a server whose spans are to be children of this one."""
        ...

    def child(self, name: str, attributes: Attributes = NOTHING, *, start_ns: int | None = None) -> "Span":
        """Begun now, or at a time of `time.time_ns`; to be ended."""
        ...

    def set(self, attributes: Attributes) -> None: ...

    def event(self, name: str, attributes: Attributes = NOTHING) -> None: ...

    def fail(self, kind: str) -> None: ...

    def end(self, error: BaseException | None = None, *, end_ns: int | None = None) -> None: ...


CURRENT: ContextVar[Span | None] = ContextVar("span", default=None)
"""Of the task at hand, and of those that it starts."""


@contextmanager
def span(name: str, attributes: Attributes = NOTHING) -> Generator[Span | None, None, None]:
    """A child of the current span, and current itself; not to be left in another task than it was entered in."""
    parent = CURRENT.get()
    if parent is None:
        yield None
        return
    with current(parent.child(name, attributes)) as it:
        yield it


@contextmanager
def current(it: Span) -> Generator[Span, None, None]:
    """`it` while it lasts, which ends it."""
    before = CURRENT.set(it)
    try:
        yield it
    except BaseException as error:
        it.end(error)
        raise
    else:
        it.end()
    finally:
        CURRENT.reset(before)


def trace_headers() -> Mapping[str, str]:
    """None where nothing is traced."""
    at = CURRENT.get()
    return {} if at is None else at.headers
