"""Two halves of a cluster lose each other and meet again: `python -m simulations.bench partition`.

Six real nodes on six loopback addresses. The network between the first three and the others is cut, both ways, and
mended after a while. What `orca nodes` prints on either side before, meanwhile and afterwards is shown: who is
believed to live, for how long, and how old that knowledge is. Nobody's network is touched: all of it happens in a
network namespace of its own, which needs `unshare`, `ip` and `iptables`, and no root where the kernel lets users
have namespaces.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from simulations.bench.node_process import NodeProcess, join_cluster, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import ROOT, until

HALF: Final = 3
CUT_S: Final = 15.0
"""Long enough for everybody to be sure, and to see the ages grow."""
HEAL_GOAL_S: Final = 60.0
GOSSIP_PORT: Final = 7946
_INSIDE: Final = "--inside"
_SETTLE_S: Final = 90.0
_STATES: Final = ("alive", "failed")


def main() -> list[Line]:
    """Seconds until each half has given the other up, and until all see all again."""
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    with tempfile.NamedTemporaryFile(prefix="orca-bench-", suffix=".json") as result:
        command = [*namespace, sys.executable, "-m", "simulations.bench.partition", _INSIDE, result.name]
        subprocess.run(command, cwd=ROOT, check=True)
        return msgspec.json.decode(Path(result.name).read_bytes(), type=list[Line])


def _inside(result: Path) -> None:
    """The same from within the namespace; the lines are left in `result`."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with (
        tempfile.TemporaryDirectory(prefix="orca-bench-", ignore_cleanup_errors=True) as folder,
        _six_nodes(Path(folder)) as nodes,
    ):
        lines = _story(nodes)
    result.write_bytes(msgspec.json.encode(lines))


@contextlib.contextmanager
def _six_nodes(folder: Path) -> Iterator[list[NodeProcess]]:
    with contextlib.ExitStack() as stack:
        nodes: list[NodeProcess] = []
        for number in range(2 * HALF):
            place = folder / f"n{number + 1}"
            place.mkdir()
            options = ("--gossip", f"{_host(number)}:{GOSSIP_PORT}", "--name", place.name, "--no-docker")
            if number:
                join_cluster(place, nodes[0], *options)
            zone = "here" if number < HALF else "there"
            nodes.append(stack.enter_context(running_node(place, *options, "--label", f"zone={zone}")))
        yield nodes


def _host(number: int) -> str:
    return f"127.0.0.{number + 1}"


def _story(nodes: Sequence[NodeProcess]) -> list[Line]:
    here, there = nodes[:HALF], nodes[HALF:]
    _wait(nodes, (len(nodes), 0))
    _show("together", here, there)
    for one in range(HALF):
        for other in range(HALF, 2 * HALF):
            _cut(_host(one), _host(other))
            _cut(_host(other), _host(one))
    cut_at = time.monotonic()
    _wait(nodes, (HALF, HALF))
    lost_s = time.monotonic() - cut_at
    time.sleep(max(0.0, CUT_S - lost_s))
    _show(f"cut for {time.monotonic() - cut_at:.0f} s", here, there)
    subprocess.run(["iptables", "-F", "OUTPUT"], check=True)
    mended_at = time.monotonic()
    _wait(nodes, (len(nodes), 0))
    healed_s = time.monotonic() - mended_at
    _show(f"mended {healed_s:.1f} s ago", here, there)
    return [
        Line(bench="partition", what="cut in halves, all of the other half given up", unit="s", result=lost_s),
        Line(
            bench="partition", what="mended, all see all", unit="s", result=healed_s, goal=HEAL_GOAL_S,
            is_goal_of_ratio=False,
        ),
    ]  # fmt: skip


def _cut(sender: str, to: str) -> None:
    subprocess.run(["iptables", "-A", "OUTPUT", "-s", sender, "-d", to, "-j", "DROP"], check=True)


def _wait(nodes: Sequence[NodeProcess], expected: tuple[int, int]) -> None:
    """Return once every node counts so many members alive and failed."""

    def look() -> bool:
        return all(_count(node) == expected for node in nodes)

    until(look, f"every node sees {expected[0]} alive and {expected[1]} failed", timeout_s=_SETTLE_S, pause_s=0.1)


def _count(node: NodeProcess) -> tuple[int, int]:
    states = [one["state"] for one in node.call("GET", "/v1/nodes")["members"]]
    alive, failed = (states.count(state) for state in _STATES)
    return alive, failed


def _show(moment: str, here: Sequence[NodeProcess], there: Sequence[NodeProcess]) -> None:
    """What `orca nodes` prints on the first node of each half."""
    for side, half in (("here", here), ("there", there)):
        say(f"\n{moment}, as the first node {side} sees it:")
        command = [sys.executable, "-m", "orca", "nodes", "--node", f"http://127.0.0.1:{half[0].api}"]
        environ = {**os.environ, "COLUMNS": "110"}
        done = subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
        say(done.stdout.rstrip())


if __name__ == "__main__":
    if sys.argv[1:2] == [_INSIDE]:
        _inside(Path(sys.argv[2]))
    else:
        show(main())
