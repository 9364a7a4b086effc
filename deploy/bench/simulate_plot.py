"""Searches/s over the size of the cluster, drawn."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt

from deploy.bench.simulate_sweep import ARRANGEMENTS, Row


def plot(told: Sequence[Row], path: Path) -> None:
    """Left what is served in time, right the share of what is offered; above steady arrivals, below in bursts."""
    bursts = sorted({row.burst_per_replica for row in told})
    figure, axes = plt.subplots(len(bursts), 2, figsize=(11, 4 * len(bursts)), squeeze=False, layout="constrained")
    for (left, right), burst in zip(axes, bursts, strict=True):
        for name in ARRANGEMENTS:
            rows = [row for row in told if row.arrangement == name and row.burst_per_replica == burst]
            sizes = [row.replicas for row in rows]
            left.loglog(sizes, [row.in_time_per_s for row in rows], marker=".", label=name)
            right.semilogx(sizes, [row.share_in_time for row in rows], marker=".", label=name)
        arrivals = f"bursts of {burst} for each replica" if burst else "steady arrivals"
        left.set(title=arrivals, xlabel="replicas", ylabel="searches/s, answered in time")
        right.set(title=arrivals, xlabel="replicas", ylabel="share answered in time", ylim=(0, 1.05))
        left.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
