"""How long until everybody lists who joins: `python -m simulations.bench join`.

From the moment at which `orca join PEER` is started to the one at which every node of the cluster, the new one
included, lists it as alive: for the third node and for the sixteenth, all of them processes of this computer. The
yardstick is the start of a node alone, `orca up` on an empty directory until its API answers, in the same run: most of
a join is that.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from simulations.bench.node_process import NodeProcess, free_port, join_cluster, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import ROOT, until

GOALS_S: Final = {3: 2.0, 16: 3.0}
ROUNDS: Final = 3
_SETTLE_S: Final = 90.0


@contextlib.contextmanager
def _cluster(folder: Path, size: int) -> Iterator[list[NodeProcess]]:
    """`size` nodes that all list each other."""
    with contextlib.ExitStack() as stack:
        nodes: list[NodeProcess] = []
        for number in range(size):
            place = folder / f"n{number}"
            place.mkdir()
            options = ("--name", place.name, "--no-docker", "--listen", "127.0.0.1")
            if nodes:
                join_cluster(place, nodes[0], *options)
            nodes.append(stack.enter_context(running_node(place, *options)))
        until(lambda: all(_alive(node) == size for node in nodes), f"{size} nodes list each other", timeout_s=_SETTLE_S)
        yield nodes


def _alive(node: NodeProcess) -> int:
    members: list[Any] = node.call("GET", "/v1/nodes")["members"]
    return sum(one["state"] == "alive" for one in members)


def _join(folder: Path, nodes: Sequence[NodeProcess]) -> float:
    """Seconds until all list one more, which goes again afterwards."""
    made = nodes[0].call("POST", "/v1/tokens")
    api, http = free_port(), free_port()
    command = [
        sys.executable, "-m", "orca", "join", made["peer"], "--data-dir", str(folder / "late"), "--name", folder.name,
        "--api", f"127.0.0.1:{api}", "--http", f"127.0.0.1:{http}", "--gossip", "127.0.0.1:0", "--mesh", "0",
        "--listen", "127.0.0.1", "--no-docker",
    ]  # fmt: skip
    before = _alive(nodes[0])
    with (folder / "log").open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "ORCA_JOIN_TOKEN": made["token"]}
        )
        late = NodeProcess(process.pid, api, http)
        try:
            until(lambda: _lists(late, before + 1), "the new node lists all", timeout_s=_SETTLE_S, pause_s=0.02)
            for node in nodes:
                until(lambda node=node: _alive(node) == before + 1, "all list it", timeout_s=_SETTLE_S, pause_s=0.02)  # type: ignore[misc] # bound now
            took_s = time.monotonic() - began
            late.fresh(60.0).call("POST", "/v1/leave", b'{"force":true}')
        finally:
            process.kill()
            process.wait()
    until(lambda: all(_alive(node) == before for node in nodes), "it is gone again", timeout_s=_SETTLE_S)
    return took_s


def _lists(node: NodeProcess, count: int) -> bool:
    with contextlib.suppress(OSError):
        return _alive(node.fresh(2.0)) == count
    return False


def _start_alone(folder: Path) -> float:
    began = time.monotonic()
    with running_node(folder, "--no-docker", "--listen", "127.0.0.1"):
        return time.monotonic() - began


def main() -> list[Line]:
    """One line for each size of the cluster."""
    lines = []
    for size, goal_s in GOALS_S.items():
        say(f"join: a cluster of {size - 1} nodes is made")
        with tempfile.TemporaryDirectory(prefix="orca-bench-", ignore_cleanup_errors=True) as made:
            folder = Path(made)
            joins, starts = [], []
            with _cluster(folder, size - 1) as nodes:
                for number in range(ROUNDS):
                    for kind in ("join", "alone"):
                        (folder / f"{kind}{number}").mkdir()
                    joins.append(_join(folder / f"join{number}", nodes))
                    starts.append(_start_alone(folder / f"alone{number}"))
        lines.append(
            Line(
                bench="join", what=f"node {size} joins, all list it", unit="s", result=statistics.median(joins),
                limit=statistics.median(starts), limit_name="start alone", goal=goal_s, is_goal_of_ratio=False,
            )
        )  # fmt: skip
    return lines


if __name__ == "__main__":
    show(main())
