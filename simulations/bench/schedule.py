"""How long a million copies take from the wish to the commit: three voters, ten thousand simulated nodes.

Measured is from the first deploy until the leader, and then every voter, has all copies in its state: reading specs,
planning, the log on disk with every write synced, replication over the mesh, `apply`. The limit, of the same run,
is a bare loop in NumPy that chooses the same number of least loaded nodes and keeps nothing else.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from simulations.bench.consensus import Orca
from simulations.bench.report import Line, say, show

SERVICES: Final = int(os.environ.get("ORCA_BENCH_SERVICES", "1000"))
COPIES: Final = 1_000
NODES: Final = 10_000
PATIENCE_S: Final = 600.0
MEBIBYTE: Final = 2**20


def bare_loop(services: int) -> float:
    """Seconds for as many choices of least loaded nodes, with the load that they make."""
    begun = time.perf_counter()
    load = np.zeros(NODES)
    for _ in range(services):
        best = np.argpartition(load, COPIES)[:COPIES]
        load[best] += 1.0
    return time.perf_counter() - begun


def main() -> list[Line]:
    """Place them all, look ahead once, and measure what it cost."""
    bare_s = bare_loop(SERVICES)
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as folder:
        group = Orca(Path(folder), module="simulations.bench.schedule_member")
        try:
            return _measure(group, bare_s)
        finally:
            group.stop()


def _measure(group: Orca, bare_s: float) -> list[Line]:
    workers, total = group.workers, SERVICES * COPIES
    for worker in workers.values():
        worker.ask("believe", NODES)
    leader = workers[group.leader]
    say(f"{leader.ask('admit')['nodes']} nodes admitted")
    begun = time.monotonic()
    leader.ask("deploy", SERVICES, COPIES)
    places = dict.fromkeys(workers, 0.0)
    peak = 0
    while not all(places.values()):
        for name, worker in workers.items():
            found = worker.ask("count")
            peak = max(peak, found["rss"])
            if found["copies"] >= total and not places[name]:
                places[name] = time.monotonic() - begun
                say(f"{name} has {found['copies']} copies after {places[name]:.1f} s")
        if time.monotonic() - begun > PATIENCE_S:
            raise RuntimeError(f"not all copies were placed in {PATIENCE_S:g} s")
        time.sleep(0.2)
    ahead = leader.ask("look")
    what = f"{total} copies of {SERVICES} services on {NODES} nodes, committed by 3 voters"
    return [
        Line(
            bench="schedule",
            what=what,
            unit="s",
            result=max(places.values()),
            limit=bare_s,
            limit_name="bare loop",
            goal=60,
            is_goal_of_ratio=False,
        ),
        Line(
            bench="schedule",
            what="memory of the largest voter, at most",
            unit="MiB",
            result=peak / MEBIBYTE,
            goal=2048,
            is_goal_of_ratio=False,
        ),
        Line(
            bench="schedule",
            what="plan of one more service of 1,000 copies there",
            unit="ms",
            result=ahead["again_s"] * 1000,
            goal=50,
            is_goal_of_ratio=False,
        ),
        Line(bench="schedule", what="the same, the first time", unit="ms", result=ahead["first_s"] * 1000),
    ]


if __name__ == "__main__":
    show(main())
    sys.exit(0)
