"""When the next request may be sent."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

Wait: TypeAlias = Callable[[float], Awaitable[None]]


class Pace:
    """Lets requests go one by one, at most `per_minute` evenly spread, and none before the end of a pause."""

    def __init__(self, per_minute: float | None, wait: Wait, clock: Callable[[], float]) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._wait, self._clock = wait, clock
        self._next = 0.0

    async def turn(self) -> None:
        while (seconds := self._next - self._clock()) > 0:  # others may have gone, or paused, in the meantime
            await self._wait(seconds)
        self._next = self._clock() + self._interval

    def pause(self, seconds: float) -> None:
        self._next = max(self._next, self._clock() + seconds)
