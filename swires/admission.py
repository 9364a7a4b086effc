"""A line in which searches wait for their share of a capacity."""

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Self


class Turn:
    """A place in a line, then `cost` of its capacity, until it is left, which it may be more than once.

    `joined_at` is on the monotonic clock, `waited_s` until it was called.
    """

    def __init__(self, line: "Line", cost: int) -> None:
        self.cost = cost
        self.joined_at = time.monotonic()
        self.waited_s = 0.0
        self.holds = False
        self.called: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._line = line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.leave(self)

    async def come(self) -> None:
        """Wait until it holds its share. Raises what it was dismissed with."""
        if refusal := await self.called:
            raise refusal


class Line:
    """Shares out a capacity strictly in the order of asking."""

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self.num_holding = 0
        self._waiting: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def cost(self) -> int:
        """What those who wait ask for."""
        return sum(turn.cost for turn in self._waiting)

    def would_wait(self, cost: int) -> bool:
        return bool(self._waiting) or cost > self.free

    def join(self, cost: int) -> Turn:
        turn = Turn(self, cost)
        self._waiting.append(turn)
        self._call()
        return turn

    def leave(self, turn: Turn) -> None:
        if turn.holds:
            turn.holds = False
            self.num_holding -= 1
            self.free += turn.cost
        elif turn in self._waiting:
            self._waiting.remove(turn)
        self._call()

    def dismiss(self, error: Exception) -> None:
        """Raise `error` from every turn that still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.called.done():
                turn.called.set_result(error)

    def _call(self) -> None:
        while self._waiting and self._waiting[0].cost <= self.free:
            turn = self._waiting.popleft()
            if not turn.called.done():  # else it has been cancelled and is about to leave
                turn.holds = True
                turn.waited_s = time.monotonic() - turn.joined_at
                self.num_holding += 1
                self.free -= turn.cost
                turn.called.set_result(None)
