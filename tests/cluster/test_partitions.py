"""The network between nodes is cut, both ways or one way, while clients write and read.

`ORCA_PARTITION_S` says for how long: 12 s by default.
"""

import contextlib
import os
import random
import threading
import time
from typing import Any

import pytest

from tests.cluster.clients import Clients
from tests.cluster.cluster import CHANGED, SETTLE_S, Cluster, Peer, allow_more_time, running_cluster
from tests.cluster.firewall import Firewall, firewall
from tests.integration.node import until

BUDGET_S = float(os.environ.get("ORCA_PARTITION_S", "12"))
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


def test_both_halves_show_how_old_their_knowledge_of_the_other_is_and_meet_again() -> None:
    """Six nodes, cut in the middle until nobody is in doubt.

    `python -m simulations.bench partition` shows the same to people.
    """
    with firewall(6) as wall, running_cluster(6, config=CONFIG, hosts=wall.hosts) as cluster:
        here, there = cluster.nodes[:3], cluster.nodes[3:]
        wait_seen(cluster.nodes, alive=cluster.nodes)
        heard = {node.name: seen_by(node) for node in (here[0], there[0])}
        assert all(one["heard_age_ms"] is not None for view in heard.values() for one in others_in(view))

        cut_at = time.monotonic()
        wall.split(wall.hosts[:3])
        wait_seen(here, alive=here)
        wait_seen(there, alive=there)
        for half, lost in ((here, there), (there, here)):
            check_ages(half[0], half, lost, time.monotonic() - cut_at)

        mended_at = time.monotonic()
        wall.mend()
        wait_seen(cluster.nodes, alive=cluster.nodes, timeout_s=60.0)
        for node in cluster.nodes:
            back = [one for one in others_in(seen_by(node)) if one["name"] in names(there if node in here else here)]
            since_mended_ms = (time.monotonic() - mended_at) * 1000 + 1000
            assert all(one["state_age_ms"] <= since_mended_ms for one in back), "alive again only since it was mended"
        cluster.wait_settled()


def check_ages(node: Peer, half: list[Peer], lost: list[Peer], since_cut_s: float) -> None:
    """Who is lost was last heard before or shortly after the cut, and is called failed only after that."""
    time_of_answer_s = 5.0
    for one in others_in(seen_by(node)):
        if one["name"] in names(lost):
            assert one["state"] == "failed"
            assert one["state_age_ms"] < one["heard_age_ms"], one
            assert one["state_age_ms"] <= (since_cut_s + time_of_answer_s) * 1000, one
        else:
            assert one["name"] in names(half)
            assert one["heard_age_ms"] < SETTLE_S * 1000
    table = node.cli("nodes").good().out
    assert f"3 of 6 alive, as {node.name} (*) sees it" in table
    assert sum(" ago " in line and " failed " in line for line in table.splitlines()) == 3, table


def seen_by(node: Peer) -> dict[str, dict[str, Any]]:
    """What `orca nodes --json` on `node` says, by name."""
    return {one["name"]: one for one in node.cli("nodes", "--json").good().json()["members"]}


def others_in(view: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in view.values() if not one["is_observer"]]


def names(nodes: list[Peer]) -> set[str]:
    return {node.name for node in nodes}


def wait_seen(nodes: list[Peer], *, alive: list[Peer], timeout_s: float = SETTLE_S) -> None:
    """Return once each of `nodes` holds exactly `alive` for alive, the rest for failed, and has heard all itself."""

    def look(node: Peer) -> bool:
        members = node.get("/v1/nodes").json()["members"]
        is_heard = all(one["is_observer"] or one["heard_age_ms"] is not None for one in members)
        expected = {one["name"]: "alive" if one["name"] in names(alive) else "failed" for one in members}
        return is_heard and len(members) >= len(alive) and {one["name"]: one["state"] for one in members} == expected

    for node in nodes:
        until(lambda node=node: look(node), f"{node.name} sees {sorted(names(alive))}", timeout_s)  # type: ignore[misc]


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
