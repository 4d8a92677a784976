"""How long the cluster cannot decide after its leader is killed: `python -m simulations.bench.failover`.

Three nodes with default timing; the leader gets `kill -9`, and at the same moment a write goes to a survivor, again and
again under one request id until it is acknowledged.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from orca.model.ids import ServiceName
from orca.model.spec import ContainerImage, ServiceSpec
from orca.model.view import DeployRequest
from simulations.bench.node_process import NodeProcess, free_port, join_cluster, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import until

NODES: Final = 3
KILLS: Final = 20
GOAL_S: Final = 2.0
_TRY_S: Final = 0.5
_SETTLE_S: Final = 60.0


class _Trio:
    """Three nodes, each of which can be killed and comes back."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._gossip = [free_port() for _ in range(NODES)]
        self._mesh = [free_port() for _ in range(NODES)]
        self._lives: list[contextlib.ExitStack] = [contextlib.ExitStack() for _ in range(NODES)]
        self.nodes: list[NodeProcess] = []
        for number in range(NODES):
            (folder / f"n{number}").mkdir()
            stack.callback(self._lives[number].close)
            self.nodes.append(self._start(number))

    def _start(self, number: int) -> NodeProcess:
        life = self._lives[number] = contextlib.ExitStack()
        self._stack.callback(life.close)
        folder = self._folder / f"n{number}"
        if number and len(self.nodes) == number:
            join_cluster(folder, self.nodes[0], "--name", f"n{number}")
        return life.enter_context(
            running_node(
                folder, "--gossip", f"127.0.0.1:{self._gossip[number]}", "--mesh", str(self._mesh[number]),
                "--name", f"n{number}", "--no-docker",
            )
        )  # fmt: skip

    def leader(self) -> int | None:
        """The number of the leader, once all three agree on it and vote."""
        views: list[dict[str, Any]] = []
        for node in self.nodes:
            with contextlib.suppress(OSError, RuntimeError):
                views.append(node.call("GET", "/v1/quorum"))
        leaders = {view["leader"] for view in views}
        if len(views) < NODES or len(leaders) != 1 or None in leaders:
            return None
        voters = sum(one["role"] in {"leader", "voter"} for one in views[0]["members"])
        own = [view["observation"]["observer"] for view in views]
        is_even = len({view["applied_index"] for view in views}) == 1
        return own.index(leaders.pop()) if voters == NODES and is_even else None

    def wait_leader(self) -> int:
        """The same, as soon as it is so."""

        def look() -> tuple[int] | None:
            leader = self.leader()
            return None if leader is None else (leader,)

        return until(look, "three voters agree on all", timeout_s=_SETTLE_S, pause_s=0.1)[0]

    def fail_over(self, number: int) -> float:
        """Seconds from the leader's death to the next acknowledged write."""
        leader = self.wait_leader()
        survivor = self.nodes[(leader + 1) % NODES]
        spec = ServiceSpec(name=ServiceName("kept"), source=ContainerImage(image=f"word:{number}"), replicas=0)
        body = msgspec.to_builtins(DeployRequest(specs=(spec,)))
        body["request_id"] = f"failover-{number}"
        os.kill(self.nodes[leader].pid, signal.SIGKILL)
        killed_at = time.monotonic()
        content = msgspec.json.encode(body)
        until(lambda: _try(survivor, content), "a write after the kill", timeout_s=_SETTLE_S, pause_s=0.005)
        took_s = time.monotonic() - killed_at
        self._lives[leader].close()
        self.nodes[leader] = self._start(leader)
        return took_s


def _try(node: NodeProcess, content: bytes) -> bool:
    try:
        node.fresh(_TRY_S).call("POST", "/v1/deploys", content)
    except (OSError, RuntimeError):
        return False
    return True


def main() -> list[Line]:
    """Median and 95th percentile."""
    folder = Path(tempfile.mkdtemp(prefix="orca-bench-"))
    times = []
    try:
        with contextlib.ExitStack() as stack:
            group = _Trio(folder, stack)
            for number in range(KILLS):
                times.append(group.fail_over(number))
                say(f"  kill {number + 1} of {KILLS}: {times[-1]:.2f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    times.sort()
    return [
        Line(bench="failover", what="leader killed, next write done: median", unit="s", result=times[len(times) // 2]),
        Line(
            bench="failover", what="the same, 95th percentile", unit="s", result=times[-1 - len(times) // 20],
            goal=GOAL_S, is_goal_of_ratio=False,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    show(main())
