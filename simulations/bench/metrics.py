"""What a scrape costs: `python -m simulations.bench.metrics`.

A node that knows 1,000 services is scraped again and again, and its loop is asked for the shortest answer it has
meanwhile. The limit is a scrape of a node that knows none.
"""

import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Final

from simulations.bench.node_process import NodeProcess, idle_spec, running_node
from simulations.bench.report import Line, say, show

SERVICES: Final = 1_000
ROUNDS: Final = 20
GOAL_MS: Final = 100.0
_CHUNK: Final = 100


def _scrapes(node: NodeProcess) -> float:
    """The median of a scrape, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{node.api}/metrics", timeout=30) as reply:
            text = reply.read()
        times.append((time.perf_counter() - began) * 1000)
        assert b"orca_build_info" in text
    return statistics.median(times)


def _answers(node: NodeProcess, is_over: threading.Event) -> float:
    """The slowest shortest answer of the API until `is_over`, in milliseconds."""
    worst, asking = 0.0, node.fresh(30)
    while not is_over.is_set():
        began = time.perf_counter()
        asking.call("GET", "/healthz")
        worst = max(worst, (time.perf_counter() - began) * 1000)
        time.sleep(0.005)
    return worst


def main() -> list[Line]:
    """A scrape without services, with 1,000, and what it does to others."""
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as made, running_node(Path(made), "--no-docker") as node:
        _scrapes(node)
        limit = _scrapes(node)
        for first in range(0, SERVICES, _CHUNK):
            node.deploy(*(idle_spec(number) for number in range(first, first + _CHUNK)))
        say(f"metrics: {SERVICES} services are known")
        worst: list[float] = []
        is_over = threading.Event()
        beside = threading.Thread(target=lambda: worst.append(_answers(node, is_over)))
        beside.start()
        result = _scrapes(node)
        is_over.set()
        beside.join()
    return [
        Line(bench="metrics", what=f"a scrape of {SERVICES:,} services, p50", unit="ms", result=result, limit=limit,
             limit_name="without services"),
        Line(bench="metrics", what="the same", unit="ms", result=result, goal=GOAL_MS, is_goal_of_ratio=False),
        Line(bench="metrics", what="the slowest answer of the API meanwhile", unit="ms", result=worst[0]),
    ]  # fmt: skip


if __name__ == "__main__":
    show(main())
