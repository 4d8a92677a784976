"""Nodes are killed at any moment while clients write and read; nothing acknowledged is lost.

`ORCA_KILL_S` says for how long: 15 s by default, 600 in the nightly run. `ORCA_KILL_SEED` repeats the choices
(not the moments: these are real processes).
"""

import os
import random
import threading
import time

import pytest

from tests.cluster.clients import Clients
from tests.cluster.cluster import Cluster, Peer, allow_more_time, running_cluster

BUDGET_S = float(os.environ.get("ORCA_KILL_S", "15"))
SEED = int(os.environ.get("ORCA_KILL_SEED", str(time.time_ns() % 1_000_000)))
REPLACE_AFTER_S = 20
_never = threading.Event()

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Harm:
    """Kills and pauses nodes at random and brings them back; `done` says what it did."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._back_at: dict[str, float] = {}
        self.done = {"one killed": 0, "two killed": 0, "all killed": 0, "one paused": 0}

    def go_on_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _never.wait(self._rng.uniform(0.3, 2.5))
            allow_more_time()
            self._bring_back(time.monotonic())
            self._harm()
        self._bring_back(float("inf"))

    def _harm(self) -> None:
        kind = self._rng.choices(list(self.done), weights=(60, 12, 4, 24))[0]
        well = [node for node in self._cluster.living if node.name not in self._back_at]
        count = {"two killed": 2, "all killed": len(self._cluster.nodes)}.get(kind, 1)
        down = len(self._cluster.nodes) - len(well)
        if kind != "all killed" and count + down > len(self._cluster.nodes) // 2:
            return  # a group without a quorum has nothing to lose; it is to work most of the time
        for node in self._rng.sample(well, min(count, len(well))):
            if kind == "one paused":
                node.pause()
            else:
                node.kill()
            self._back_at[node.name] = time.monotonic() + self._rng.uniform(0.2, 4)
        self.done[kind] += 1

    def _bring_back(self, now: float) -> None:
        for node in self._cluster.nodes:
            if self._back_at.get(node.name, float("inf")) <= now or (now == float("inf") and not node.is_living):
                self._back_at.pop(node.name, None)
                bring_back(node)


def bring_back(node: Peer) -> None:
    """Let it run again, whatever was done to it."""
    if node.is_running:
        node.go_on()
    else:
        node.spawn()


def test_nothing_acknowledged_is_lost_and_all_is_linearizable_while_nodes_are_killed_at_random() -> None:
    with running_cluster(5, config=f"[cluster]\nvoter_replace_after_s = {REPLACE_AFTER_S}\n") as cluster:
        cluster.wait_settled()
        clients, harm = Clients(cluster, SEED), Harm(cluster, SEED)
        clients.start()
        try:
            harm.go_on_for(BUDGET_S)
        finally:
            clients.stop()
        assert all(node.is_running for node in cluster.nodes), "a node that was not killed ended by itself"
        for node in cluster.nodes:
            node.wait_up()
        cluster.wait_settled()
        print(f"seed {SEED}, {harm.done}: {clients.check()}", flush=True)  # noqa: T201
        assert clients.acknowledged() > BUDGET_S, "most of the time something could be decided"
        assert sum(harm.done.values()) >= BUDGET_S / 5
