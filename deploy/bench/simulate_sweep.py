"""What clusters of growing size serve, as rows of a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from deploy.bench.simulate_cluster import MAX_CANDIDATES, Cluster, Fronts, Served, Simulation
from deploy.bench.simulate_inputs import StepTimes, Workload
from deploy.bench.simulate_routing import Routing

REPLICAS = (1, 2, 4, 8, 16, 64, 256, 1000)
NEARLY_ALL = 0.95
IN_TIME = 2.0
"""An answer comes in time within so many times what nearly all searches take that have a replica to themselves."""
BEND = 0.9
WARM_UP = 0.25
"""Share of the simulated time of which nothing is counted."""
LEAST_SEARCHES_LONG = 6
"""The least simulated time, in times of what nearly all lone searches take."""
SEED = 7


class Arrangement(NamedTuple):
    routing: Routing
    fronts: Fronts


ARRANGEMENTS: Mapping[str, Arrangement] = {
    "hash": Arrangement("hash", "each"),
    "bounded hash": Arrangement("bounded", "each"),
    "least loaded": Arrangement("least", "each"),
    "no affinity": Arrangement("request", "each"),
    "one server": Arrangement("bounded", "one"),
}
"""A server for each engine behind a balancer of searches; but in the last, where one server sends the requests of all
searches to all engines, through a router that hashes the search."""


@dataclass(frozen=True, slots=True)
class Row:
    """`offered_per_s` is what arrived on average, `in_time_per_s` what of that was answered in time."""

    arrangement: str
    burst_per_replica: int
    replicas: int
    offered_per_s: float
    searches_per_s: float
    in_time_per_s: float
    p50_s: float
    p95_s: float
    refused: float

    @property
    def share_in_time(self) -> float:
        return self.in_time_per_s / self.offered_per_s


@dataclass(frozen=True)
class Sweep:
    """Of clusters whose replicas are all the same. About `num_searches` arrive for each row, in a large one more."""

    times: StepTimes
    workload: Workload
    num_searches: int = 4000
    max_candidates: int = MAX_CANDIDATES

    @cached_property
    def lone_s(self) -> float:
        """What nearly all searches take that have a replica to themselves."""
        simulation = self._simulation(Cluster(1))
        simulation.closed(1, seconds=400 * self.times.step_s(1, 0, 0, 0) * self.workload.tokens_per_search)
        return float(np.quantile([each.seconds for each in simulation.served], NEARLY_ALL))

    @cached_property
    def most_per_s(self) -> float:
        """What one replica serves that is never idle."""
        simulation, seconds = self._simulation(Cluster(1)), 40 * self.lone_s
        simulation.closed(self.max_candidates, seconds)
        return per_s(simulation.served, seconds * WARM_UP, seconds)

    @property
    def in_time_s(self) -> float:
        return IN_TIME * self.lone_s

    def grow(self, *, load: float, bursts: Sequence[int], replicas: Sequence[int]) -> Iterator[Row]:
        """Where for each replica `load` times what it serves at most is offered."""
        for burst in bursts:
            for name, (routing, fronts) in ARRANGEMENTS.items():
                for size in replicas:
                    cluster = Cluster(size, routing, fronts)
                    yield self.row(name, cluster, offered_per_s=load * self.most_per_s * size, burst=burst)

    def most_in_time(self, cluster: Cluster) -> Row:
        """At the greatest rate, within 2 %, of which nearly all come in time."""
        low, high = 0.0, self.most_per_s * cluster.replicas
        best: Row | None = None
        while best is None or high - low > 0.02 * high:
            row = self.row("", cluster, offered_per_s=(low + high) / 2, burst=0)
            if row.share_in_time >= NEARLY_ALL:
                low, best = (low + high) / 2, row
            else:
                high = (low + high) / 2
        return best

    def row(self, name: str, cluster: Cluster, *, offered_per_s: float, burst: int) -> Row:
        """Where searches arrive alone or, if `burst` is not 0, so many at once for each replica."""
        seconds = max(self.num_searches / offered_per_s, LEAST_SEARCHES_LONG * self.lone_s)
        simulation = self._simulation(cluster)
        simulation.open(offered_per_s, seconds, burst=max(1, burst * cluster.replicas))
        since = seconds * WARM_UP
        took = [each.seconds for each in simulation.served if each.arrived_s >= since]
        p50, p95 = np.percentile(took, [50, 95]) if took else (math.nan, math.nan)
        return Row(
            name,
            burst,
            cluster.replicas,
            simulation.num_arrived_after(since) / (seconds - since),
            per_s(simulation.served, since, seconds),
            sum(each <= self.in_time_s for each in took) / (seconds - since),
            float(p50),
            float(p95),
            simulation.num_refused / max(1, simulation.num_arrived),
        )

    def _simulation(self, cluster: Cluster) -> Simulation:
        whole = replace(cluster, max_candidates=self.max_candidates)
        return Simulation(whole, self.times, self.workload, seed=SEED)


def per_s(served: Sequence[Served], since_s: float, until_s: float) -> float:
    """Searches that ended between the two, for each second."""
    return sum(since_s <= each.finished_s < until_s for each in served) / (until_s - since_s)


def bend(rows: Sequence[Row]) -> int | None:
    """The least size of which the share in time is less than 0.9 of the smallest one's."""
    enough = BEND * min(rows, key=lambda row: row.replicas).share_in_time
    return min((row.replicas for row in rows if row.share_in_time < enough), default=None)
