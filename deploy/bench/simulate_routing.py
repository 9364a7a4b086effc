"""On which replica a search runs."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Literal, TypeAlias

from server.engine.ranks import Ranks

Routing: TypeAlias = Literal["hash", "bounded", "least", "request"]
ROUTINGS: Mapping[Routing, str] = {
    "hash": "consistent hashing on the search's id",
    "bounded": "the same with bounded loads: a replica at its bound passes the search on along the ring",
    "least": "the replica with the fewest searches, as data-parallel ranks are chosen",
    "request": "each request on the next replica, whatever the search: no affinity",
}

VIRTUAL_NODES = 160
"""Points of each replica on the ring, as in vllm-router's consistent_hash (src/policies/consistent_hash.rs)."""

BOUND = 1.25
"""Most searches on a replica over the mean (Mirrokni, Thorup, Zadimoghaddam, arXiv 1608.01350: 1 + epsilon)."""


class Router:
    """Knows how many searches each replica has. With "request" a search has a home too, that of its server."""

    def __init__(self, routing: Routing, num_replicas: int, chance: Random) -> None:
        self._chance = chance
        self._ranks = Ranks(num_replicas)
        self._turns = count()
        self._per_request = routing == "request"
        choices: Mapping[Routing, Callable[[], int]] = {
            "hash": lambda: next(self._along_the_ring()),
            "bounded": self._bounded,
            "least": self._ranks.choose,
            "request": lambda: next(self._turns) % num_replicas,
        }
        self._choose = choices[routing]
        points = sorted((chance.random(), owner) for owner in range(num_replicas) for _ in range(VIRTUAL_NODES))
        self._points, self._owners = [point for point, _ in points], [owner for _, owner in points]

    @contextmanager
    def search(self) -> Iterator[int]:
        """The home of a search, for as long as it is under way."""
        home = self._choose()
        with self._ranks.running(home):
            yield home

    def of_request(self, home: int) -> int:
        return self._choose() if self._per_request else home

    def _along_the_ring(self) -> Iterator[int]:
        """The owners of the points from that of the search onward; its id is as good as random."""
        first = bisect_left(self._points, self._chance.random())
        for step in range(len(self._owners)):
            yield self._owners[(first + step) % len(self._owners)]

    def _bounded(self) -> int:
        loads = self._ranks.num_running
        bound = math.ceil(BOUND * (self._num_searches() + 1) / len(loads))
        return next(owner for owner in self._along_the_ring() if loads[owner] < bound)

    def _num_searches(self) -> int:
        return sum(self._ranks.num_running)
