"""Real servers under load beside the same load simulated: `python -m deploy.bench.simulate check`."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import fmean

from deploy.bench.simulate_cluster import Cluster, Simulation
from deploy.bench.simulate_inputs import StepTimes, Workload
from deploy.bench.simulate_record import Running, closed_load, questions, serving
from deploy.bench.simulate_sweep import SEED, WARM_UP, per_s


@dataclass(frozen=True, slots=True)
class Compared:
    """`core_share` is what the servers had of their cores, on which others ran too; a server that waits spins, so that
    alone it has all. `measured_per_s` is for each second that a core was theirs."""

    processes: int
    clients: int
    core_share: float
    measured_per_s: float
    simulated_per_s: float
    measured_tokens: float
    simulated_tokens: float

    @property
    def ratio(self) -> float:
        return self.simulated_per_s / self.measured_per_s


def simulated(times: StepTimes, workload: Workload, *, processes: int, clients: int, seconds: float = 300) -> float:
    """Searches/s of servers that have a core each, with as many clients each."""
    simulation = Simulation(Cluster(processes, fronts="same core"), times, workload, seed=SEED)
    simulation.closed(processes * clients, seconds)
    return per_s(simulation.served, seconds * WARM_UP, seconds)


async def compared(
    model: str, times: StepTimes, workload: Workload, *, processes: int, clients: int, seconds: float, port: int
) -> Compared:
    """Servers each on a core of its own; the clients of one are kept off its core, those of two share both."""
    cores = sorted(os.sched_getaffinity(0))
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(serving(model, cores[index], port + index)) for index in range(processes)]
        servers = [await each for each in starting]
        asked = questions(model)
        since, share = seconds * WARM_UP, asyncio.create_task(_core_share(servers, seconds * WARM_UP, seconds))
        loads = [closed_load(each.url, asked, seconds, clients=clients) for each in servers]
        answers = [each for some in await asyncio.gather(*loads) for each in some if each.after_s >= since]
        core_share = await share
    return Compared(
        processes,
        clients,
        core_share,
        len(answers) / (seconds - since) / core_share,
        simulated(times, workload, processes=processes, clients=clients),
        fmean(_generated(each.told["tokens"]) for each in answers),
        workload.tokens_per_search,
    )


async def _core_share(servers: Sequence[Running], since_s: float, until_s: float) -> float:
    await asyncio.sleep(since_s)
    before = sum(each.core_s for each in servers)
    await asyncio.sleep(until_s - since_s)
    return (sum(each.core_s for each in servers) - before) / (until_s - since_s) / len(servers)


def _generated(tokens: Mapping[str, int]) -> int:
    return tokens["winner"] + tokens["discarded"] + tokens["aborted"]


def table(told: Sequence[Compared]) -> str:
    heads = ("processes", "clients each", "share of core", "measured/s", "simulated/s", "ratio", "tokens/search")
    lines = (
        (
            str(each.processes),
            str(each.clients),
            f"{each.core_share:.2f}",
            f"{each.measured_per_s:.2f}",
            f"{each.simulated_per_s:.2f}",
            f"{each.ratio:.2f}",
            f"{each.measured_tokens:.0f} / {each.simulated_tokens:.0f}",
        )
        for each in told
    )
    return "\n".join("  ".join(f"{cell:>13}" for cell in line) for line in (heads, *lines))


async def all_compared(
    model: str, times: StepTimes, workload: Workload, *, clients: Sequence[int], seconds: float, port: int
) -> list[Compared]:
    """One server and two, each with as many clients."""
    return [
        await compared(model, times, workload, processes=processes, clients=num, seconds=seconds, port=port)
        for processes in (1, 2)
        for num in clients
    ]
