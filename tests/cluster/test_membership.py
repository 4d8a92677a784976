"""How processes find each other: over IPv6, by a seed with a name, and again after all were killed."""

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import real_agents
from tests.cluster.cluster import SETTLE_S, Cluster, Peer, running_cluster
from tests.integration.node import until
from tests.ports import free_port

KEY = base64.b64encode(bytes(range(32))).decode()
pytestmark = [pytest.mark.integration, pytest.mark.slow]


def members_of(node: Peer) -> dict[str, Any]:
    """What `GET /v1/nodes` says, by name."""
    return {one["name"]: one for one in node.get("/v1/nodes").json()["members"]}


def wait_alive(nodes: list[Peer], *names: str) -> None:
    """Return once each of `nodes` sees exactly these, all alive."""
    expected = dict.fromkeys(names, "alive")
    for node in nodes:

        def look(node: Peer = node) -> bool:
            return {name: one["state"] for name, one in members_of(node).items()} == expected

        until(look, f"{node.name} sees {names}", SETTLE_S)


@contextlib.contextmanager
def peers(*peers: Peer) -> Iterator[None]:
    """Kill these in the end and show their logs when something fails."""
    try:
        yield
    except BaseException:
        for node in peers:
            print(f"---- log of {node.name}\n{node.log[-3000:]}")  # noqa: T201
        raise
    finally:
        for node in peers:
            if node.is_running:
                node.kill()


def peer(directory: Path, name: str, **settings: Any) -> Peer:
    (directory / name).mkdir()
    return Peer(directory / name, name=name, **settings)


def test_all_find_each_other_again_without_seeds_after_all_were_killed_and_nobody_has_to_refute() -> None:
    with running_cluster(3) as cluster:
        wait_alive(cluster.nodes, "n1", "n2", "n3")
        cluster.wait_settled()
        before = {node.name: counts(node)["incarnation"] for node in cluster.nodes}
        kill_all_when_known(cluster)
        cluster.restart_dead()
        wait_alive(cluster.nodes, "n1", "n2", "n3")
        for node in cluster.nodes:
            now = counts(node)
            assert now["incarnation"] > before[node.name], "a new life is told from the last one"
            assert now.get("refutes", 0) == 0, f"{node.name} had to refute what was said of its last life"
        cluster.wait_settled()


def counts(node: Peer) -> dict[str, int]:
    found: dict[str, int] = node.get("/v1/gossip").json()["counts"]
    return found


def kill_all_when_known(cluster: Cluster) -> None:
    until(lambda: all(len(members_of(node)) == len(cluster.nodes) for node in cluster.nodes), "all are known")
    cluster.write("kept", "known")  # a second, in which peers are written down
    until(lambda: all(node.words("kept") == ["known"] for node in cluster.nodes), "all know the write", SETTLE_S)
    cluster.kill_all()


def test_a_node_whose_peers_all_moved_finds_them_by_a_seed_with_a_name() -> None:
    with running_cluster(2) as cluster:
        one, two = cluster.nodes
        wait_alive(cluster.nodes, "n1", "n2")
        kill_all_when_known(cluster)
        for node in cluster.nodes:
            node.gossip, node.mesh = free_port(), free_port()
        two.options = (*two.options, "--seed", "no-such-name.invalid", "--seed", f"localhost:{one.gossip}")
        two.spawn()  # before there is anybody
        until(lambda: "no peer answers yet" in two.log, "it says whom it waits for", SETTLE_S)
        assert "'no-such-name.invalid' is not known to the resolver" in two.log
        one.start()
        two.wait_up()
        wait_alive([one, two], "n1", "n2")
        cluster.write("kept", "again")
        cluster.wait_words("kept", ["known", "again"])


def test_a_cluster_over_ipv6() -> None:
    with running_cluster(2, hosts=("[::1]", "[::1]")) as cluster:
        one, two = cluster.nodes
        wait_alive([one, two], "n1", "n2")
        assert members_of(one)["n2"]["address"] == f"[::1]:{two.gossip}"
        until(lambda: len((one.quorum() or {"members": ()})["members"]) == 2, "the mesh works too", SETTLE_S)


@pytest.mark.serf
def test_an_agent_is_met_over_ipv6(tmp_path: Path) -> None:
    one = peer(
        tmp_path, "n1", host="[::1]", gossip=free_port("::1"), config=f'[gossip]\nkey = "{KEY}"\nprofile = "local"\n'
    )
    with peers(one):
        one.start()
        with real_agents(1, encrypt=KEY, join=[one.gossip_address], host="::1") as (agent,):
            wait_alive([one], "n1", "real1")
            assert members_of(one)["real1"]["address"] == agent.address
            agent.wait_state(one.id, "alive")


def test_others_are_told_the_advertised_address() -> None:
    with tempfile.TemporaryDirectory(prefix="orca-cluster-") as made:
        cluster = Cluster(Path(made), 2)
        one, two = cluster.nodes
        two.host, two.config = "0.0.0.0", '[gossip]\nadvertise = "127.0.0.2"\n'
        with peers(one, two):
            cluster.start()
            wait_alive([one, two], "n1", "n2")
            assert members_of(one)["n2"]["address"] == f"127.0.0.2:{two.gossip}"
            until(lambda: members_of(one)["n2"]["rtt_ms"] is not None, "it is probed there", SETTLE_S)
