"""A line in which searches wait for their share of a capacity."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Turn:
    cost: int
    called: asyncio.Future[Exception | None]
    holds: bool = False


class Line:
    """Shares out a capacity strictly in the order of asking."""

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._waiting: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def cost(self) -> int:
        """What those who wait ask for."""
        return sum(turn.cost for turn in self._waiting)

    def would_wait(self, cost: int) -> bool:
        return bool(self._waiting) or cost > self.free

    @asynccontextmanager
    async def share(self, cost: int) -> AsyncGenerator[None, None]:
        """Wait for `cost` of the capacity, hold it, give it back."""
        turn = Turn(cost, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._call()
        try:
            if refusal := await turn.called:
                raise refusal
            yield
        finally:
            self._leave(turn)

    def dismiss(self, error: Exception) -> None:
        """Raise `error` from every `share` that still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.called.done():
                turn.called.set_result(error)

    def _call(self) -> None:
        while self._waiting and self._waiting[0].cost <= self.free:
            turn = self._waiting.popleft()
            if not turn.called.done():  # else it has been cancelled and is about to leave
                turn.holds = True
                self.free -= turn.cost
                turn.called.set_result(None)

    def _leave(self, turn: Turn) -> None:
        if turn.holds:
            self.free += turn.cost
        elif turn in self._waiting:
            self._waiting.remove(turn)
        self._call()
