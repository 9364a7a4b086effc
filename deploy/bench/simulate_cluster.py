"""A cluster at work, event by event: engines step, searches wait for their candidates, servers for their turn.

A request joins at the next step, which prefills what its replica has not cached, in full blocks, and gives its first
token; each step after that gives one more. A candidate is read by one more request, of one token. What follows the end
of a request misses the step that begins then and joins at the one after. Not modelled: the length of the contexts that
are attended to, memory that runs out, the network.
"""

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

import simpy

from deploy.bench.simulate_inputs import ROOT, RecordedSearch, StepTimes, Workload
from deploy.bench.simulate_routing import Router, Routing

Fronts: TypeAlias = Literal["each", "one", "same core"]
Process: TypeAlias = Generator[simpy.Event, Any, None]

MAX_CANDIDATES = 64
MAX_WAITING = 64
"""For each replica; the first is one that one core of a CPU keeps up with, a quarter of the server's default."""
RETRY_AFTER_S = 1.0
ONE_SERVER = 8
"""Most replicas' worth of candidates that one server lets in: more would only lengthen its answers."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`fronts`: a server's process for each replica, on a core of its own or on the engine's, or one for all."""

    replicas: int
    routing: Routing = "least"
    fronts: Fronts = "each"
    max_candidates: int = MAX_CANDIDATES


@dataclass(frozen=True, slots=True)
class Served:
    arrived_s: float
    finished_s: float

    @property
    def seconds(self) -> float:
        return self.finished_s - self.arrived_s


@dataclass(slots=True)
class Request:
    """To one replica: to continue `parent` by `tokens`. `node` is what it samples, None where it only reads."""

    search: "LiveSearch"
    parent: int
    tokens: int
    node: int | None
    left: "Countdown"


@dataclass(slots=True)
class Countdown:
    """`over` happens with the last of `count`."""

    count: int
    over: simpy.Event

    def step(self) -> None:
        self.count -= 1
        if not self.count:
            self.over.succeed()


@dataclass(slots=True)
class LiveSearch:
    """What each replica holds of its tree is known by the candidates' places."""

    recorded: RecordedSearch
    home: int
    held: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def prefill(self, replica: int, parent: int, block: int) -> tuple[int, int]:
        """Tokens and images that `replica` has to compute before it continues `parent`, and holds from then on."""
        held, length = self.held[replica], self.recorded.prompt_tokens
        num_images, num_held = (0, length) if ROOT in held else (1, 0)
        for node in self._down_to(parent):
            tokens = self.recorded.candidates[node].tokens
            length += tokens
            num_held += tokens if node in held else 0
            held.add(node)
        held.add(ROOT)
        return length - min(num_held, length - 1) // block * block, num_images

    def _down_to(self, node: int) -> Sequence[int]:
        nodes = []
        while node != ROOT:
            nodes.append(node)
            node = self.recorded.candidates[node].parent
        return nodes[::-1]


class Replica:
    """One engine."""

    def __init__(self, env: simpy.Environment, times: StepTimes, block: int, index: int) -> None:
        self.index = index
        self.debt_s = 0.0
        self._env, self._times, self._block = env, times, block
        self._joining: list[Request] = []
        self._ending: defaultdict[int, list[Request]] = defaultdict(list)
        self._step = 0
        self._work = env.event()
        env.process(self._run())

    def submit(self, request: Request) -> None:
        under_way = self._env.timeout(self._times.turnaround_s)
        under_way.callbacks.append(lambda _: self._take(request))

    def _take(self, request: Request) -> None:
        self._joining.append(request)
        if not self._work.triggered:
            self._work.succeed()

    def _run(self) -> Process:
        num_running = 0
        while True:
            if not self._joining and not num_running:
                self._work = self._env.event()
                yield self._work
            num_joining = len(self._joining)
            num_running += num_joining
            tokens, images = self._join()
            debt, self.debt_s = self.debt_s, 0.0
            yield self._env.timeout(debt + self._times.step_s(num_running, num_joining, tokens, images))
            self._step += 1
            ended = self._ending.pop(self._step, ())
            num_running -= len(ended)
            for request in ended:
                self._end(request)

    def _join(self) -> tuple[int, int]:
        num_tokens = num_images = 0
        for request in self._joining:
            tokens, images = request.search.prefill(self.index, request.parent, self._block)
            num_tokens, num_images = num_tokens + tokens, num_images + images
            self._ending[self._step + request.tokens].append(request)
        self._joining = []
        return num_tokens, num_images

    def _end(self, request: Request) -> None:
        if request.node is not None:
            request.search.held[self.index].add(request.node)
        request.left.step()


class Front:
    """A server: its searches take turns by their width, its process does one thing at a time."""

    def __init__(self, env: simpy.Environment, max_candidates: int, max_waiting: int) -> None:
        self.line = simpy.Container(env, max_candidates, init=max_candidates)
        self.max_waiting = max_waiting
        self.core = simpy.Resource(env)

    @property
    def full(self) -> bool:
        return len(self.line.get_queue) >= self.max_waiting


class Simulation:
    """Searches that arrive at a cluster: when each did, and those `served`, in the order of their ends."""

    def __init__(self, cluster: Cluster, times: StepTimes, workload: Workload, *, seed: int) -> None:
        self.served: list[Served] = []
        self.arrived_s: list[float] = []
        self.num_refused = 0
        self._cluster, self._times, self._workload = cluster, times, workload
        self._chance = Random(seed)
        self._env = simpy.Environment()
        self._replicas = [Replica(self._env, times, workload.block, index) for index in range(cluster.replicas)]
        self._router = Router(cluster.routing, cluster.replicas, self._chance)
        one = cluster.fronts == "one"
        share = min(cluster.replicas, ONE_SERVER) if one else 1
        self._fronts = [
            Front(self._env, cluster.max_candidates * share, MAX_WAITING * share)
            for _ in range(1 if one else cluster.replicas)
        ]

    @property
    def num_arrived(self) -> int:
        return len(self.arrived_s)

    def num_arrived_after(self, since_s: float) -> int:
        return sum(each >= since_s for each in self.arrived_s)

    def open(self, per_s: float, seconds: float, *, burst: int = 1) -> None:
        """Searches arrive for so long, at times that are independent, or `burst` at once at even distances; all are let
        finish."""
        self._env.process(self._arrivals(per_s, seconds, burst))
        self._env.run()

    def closed(self, num_clients: int, seconds: float) -> None:
        """Each client begins its next search when its last one is over, for so long."""
        for _ in range(num_clients):
            self._env.process(self._client(seconds))
        self._env.run()

    def _arrivals(self, per_s: float, seconds: float, burst: int) -> Process:
        while True:
            yield self._env.timeout(self._chance.expovariate(per_s) if burst == 1 else burst / per_s)
            if self._env.now >= seconds:
                return
            for _ in range(burst):
                self._env.process(self._search())

    def _client(self, seconds: float) -> Process:
        """One that is refused asks again when it is told to."""
        while self._env.now < seconds:
            served = yield from self._search()
            if not served:
                yield self._env.timeout(RETRY_AFTER_S)

    def _search(self) -> Generator[simpy.Event, Any, bool]:
        """Tells whether it was served."""
        recorded, arrived_s = self._chance.choice(self._workload.searches), self._env.now
        self.arrived_s.append(arrived_s)
        with self._router.search() as home:
            front = self._fronts[home % len(self._fronts)]
            if front.full:
                self.num_refused += 1
                return False
            width = min(recorded.width, front.line.capacity)
            yield front.line.get(width)
            search = LiveSearch(recorded, home)
            for expansion in recorded.expansions:
                yield from self._expand(search, expansion, front)
            yield front.line.put(width)
        self.served.append(Served(arrived_s, self._env.now))
        return True

    def _expand(self, search: LiveSearch, expansion: tuple[int, ...], front: Front) -> Process:
        candidates = [search.recorded.candidates[place] for place in expansion]
        yield from self._work(search, front, len(candidates) + sum(each.read for each in candidates))
        left = Countdown(len(expansion), self._env.event())
        for place, candidate in zip(expansion, candidates, strict=True):
            sampled = left if not candidate.read else self._then_read(search, place, left)
            self._submit(Request(search, candidate.parent, candidate.tokens, place, sampled))
        yield left.over

    def _then_read(self, search: LiveSearch, place: int, left: Countdown) -> Countdown:
        sampled = Countdown(1, self._env.event())
        read = Request(search, place, 1, None, left)
        assert sampled.over.callbacks is not None
        sampled.over.callbacks.append(lambda _: self._submit(read))
        return sampled

    def _work(self, search: LiveSearch, front: Front, num_requests: int) -> Process:
        seconds = num_requests * self._times.front_request_s
        if self._cluster.fronts == "same core":
            self._replicas[search.home].debt_s += seconds
            return
        with front.core.request() as turn:
            yield turn
            yield self._env.timeout(seconds)

    def _submit(self, request: Request) -> None:
        self._replicas[self._router.of_request(request.search.home)].submit(request)
