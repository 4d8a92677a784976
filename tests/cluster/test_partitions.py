"""The network between nodes is cut, both ways or one way, while clients write and read.

`ORCA_PARTITION_S` says for how long: 20 s by default.
"""

import contextlib
import os
import random
import threading
import time

import pytest

from tests.cluster.clients import Clients
from tests.cluster.cluster import CHANGED, SETTLE_S, Cluster, allow_more_time, running_cluster
from tests.cluster.firewall import Firewall, firewall
from tests.integration.node import until

BUDGET_S = float(os.environ.get("ORCA_PARTITION_S", "20"))
SEED = int(os.environ.get("ORCA_PARTITION_SEED", str(time.time_ns() % 1_000_000)))
CONFIG = "[cluster]\nvoters = 3\nvoter_replace_after_s = 60\n"
_never = threading.Event()

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_leader_that_is_cut_off_acknowledges_nothing_and_follows_when_it_is_back() -> None:
    with firewall(3) as wall, running_cluster(3, config=CONFIG, hosts=wall.hosts) as cluster:
        old = cluster.wait_settled()
        cluster.write("kept", "before")
        wall.split([old.host])
        new = cluster.wait_leader(other_than=old)
        through_new = cluster.write("kept", "after", through=new)
        assert through_new, "the majority goes on"
        with contextlib.suppress(OSError):  # no answer in time is as good as a refusal
            reply = old.write("kept", "never", "never", timeout_s=3)
            assert reply.status not in CHANGED, "a leader without a quorum acknowledged a write"
        quorum = old.quorum()
        assert quorum is not None, "it still says what it knows"
        wall.mend()
        cluster.wait_settled()
        for node in cluster.nodes:
            until(lambda node=node: node.words("kept")[:2] == ["before", "after"], "both writes are there", SETTLE_S)  # type: ignore[misc]


def test_all_is_linearizable_while_the_network_is_cut_at_random() -> None:
    with firewall(5) as wall, running_cluster(5, config=CONFIG, hosts=wall.hosts) as cluster:
        cluster.wait_settled()
        clients = Clients(cluster, SEED)
        clients.start()
        try:
            cuts = cut_for(cluster, wall, BUDGET_S)
        finally:
            wall.mend()
            clients.stop()
        cluster.wait_settled()
        print(f"seed {SEED}, {cuts} cuts: {clients.check()}", flush=True)  # noqa: T201
        assert cuts >= BUDGET_S / 10
        assert clients.acknowledged() > BUDGET_S / 2, "a majority could decide most of the time"


def cut_for(cluster: Cluster, wall: Firewall, seconds: float) -> int:
    """Cut and mend at random; how often."""
    rng = random.Random(SEED)
    end = time.monotonic() + seconds
    cuts = 0
    while time.monotonic() < end:
        leader = cluster.leader()
        victims = rng.sample(wall.hosts, rng.randint(1, 2))
        if leader is not None and rng.random() < 0.5:
            victims = [leader.host]
        if rng.random() < 0.3:
            others = [host for host in wall.hosts if host not in victims]
            is_deaf = rng.random() < 0.5
            wall.cut((other, one) if is_deaf else (one, other) for one in victims for other in others)
        else:
            wall.split(victims)
        cuts += 1
        allow_more_time()
        _never.wait(rng.uniform(1, 4))
        wall.mend()
        _never.wait(rng.uniform(0.5, 2))
    return cuts
