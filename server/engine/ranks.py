"""vLLM's data-parallel engines, called ranks: each caches by itself, so that a search keeps to one."""

from collections.abc import Iterator
from contextlib import contextmanager


class Ranks:
    """Counts the requests that run on each of `size` ranks."""

    def __init__(self, size: int) -> None:
        self.num_running = [0] * size
        self._latest = -1

    def choose(self) -> int:
        """One of those on which the fewest requests run, in turn."""
        size, fewest = len(self.num_running), min(self.num_running)
        in_turn = ((self._latest + 1 + step) % size for step in range(size))
        self._latest = next(rank for rank in in_turn if self.num_running[rank] == fewest)
        return self._latest

    @contextmanager
    def running(self, rank: int) -> Iterator[None]:
        """Count a request in."""
        self.num_running[rank] += 1
        try:
            yield
        finally:
            self.num_running[rank] -= 1
