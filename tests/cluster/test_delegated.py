"""Nodes whose membership a Serf agent beside each of them keeps: `gossip.backend = "serf"`."""

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import RealAgent, real_agents, serf
from tests.cluster.cluster import CHANGED, SETTLE_S, Cluster, Peer
from tests.integration.node import until
from tests.integration.services import HELLO_WAT, module
from tests.serf_agent import AUTH_KEY

KEY = base64.b64encode(bytes(range(32))).decode()
pytestmark = [pytest.mark.serf, pytest.mark.integration, pytest.mark.slow]


UNSEALED = 'host = "127.0.0.1"\nencrypt = false\n'
"""What all nodes of a cluster say whose agents have no key."""


def delegating(agent: RealAgent, key: str = AUTH_KEY, more: str = "") -> str:
    """The settings of a node beside `agent`."""
    return f'[gossip]\nbackend = "serf"\n{more}[gossip.agent]\nport = {agent.rpc_port}\nkey = "{key}"\n'


@contextlib.contextmanager
def delegated_cluster(agents: list[RealAgent], own: int = 0) -> Iterator[Cluster]:
    """A node beside each agent, but for the last `own`, which gossip themselves."""
    with tempfile.TemporaryDirectory(prefix="orca-cluster-", ignore_cleanup_errors=True) as made:
        cluster = Cluster(Path(made), len(agents))
        sealing = UNSEALED if own else ""
        for number, (node, agent) in enumerate(zip(cluster.nodes, agents, strict=True)):
            if number < len(agents) - own:
                node.config = delegating(agent, more=sealing)
            else:
                node.config = f'[gossip]\nprofile = "local"\nseeds = ["{agents[0].address}"]\n{sealing}'
        try:
            cluster.start()
            yield cluster
        except BaseException:
            for node in cluster.nodes:
                print(f"---- log of {node.name}\n{node.log[-3000:]}")  # noqa: T201
            raise
        finally:
            cluster.kill_all()


def states_of(node: Peer) -> dict[str, str]:
    """The nodes of the cluster and their states, as `node` sees them."""
    return {one["name"]: one["state"] for one in members_of(node).values()}


def members_of(node: Peer) -> dict[str, dict[str, Any]]:
    """What `GET /v1/nodes` says of Orca nodes, by name."""
    return {one["name"]: one for one in node.get("/v1/nodes").json()["members"] if one["id"] is not None}


def wait_states(nodes: list[Peer], expected: dict[str, str]) -> None:
    for node in nodes:
        until(lambda node=node: states_of(node) == expected, f"{node.name} sees {expected}", SETTLE_S)  # type: ignore[misc]


def wait_event(node: Peer, kind: str, words: str) -> None:
    def look() -> bool:
        return any(one["kind"] == kind and words in one["message"] for one in node.events())

    until(look, f"{node.name} tells {kind}: {words}", SETTLE_S)


def deploy_hello(node: Peer, replicas: int) -> None:
    node.file("hello.wat", HELLO_WAT)
    service = node.file("service.toml", module(replicas=replicas))
    node.cli("deploy", service, timeout_s=90).good()


def serves(node: Peer) -> bool:
    """Whether a request to its proxy is answered by the service."""
    with contextlib.suppress(OSError):
        return node.through_proxy("/hello", timeout_s=3).text == "module\n"
    return False


def test_nodes_beside_agents_form_a_cluster_that_serves_and_survives_a_node_and_an_agent() -> None:
    with real_agents(3) as agents, delegated_cluster(agents) as cluster:
        one, two, three = cluster.nodes
        wait_states(cluster.nodes, {"n1": "alive", "n2": "alive", "n3": "alive"})
        cluster.wait_settled()
        check_members(one, agents)
        check_events(one, two, agents)

        deploy_hello(two, 3)
        for node in cluster.nodes:
            ready = node.wait_ready("default/hello", 3, SETTLE_S)
            assert {copy["node"] for copy in ready} == {peer.id for peer in cluster.nodes}
            until(lambda node=node: serves(node), f"{node.name} serves", SETTLE_S)  # type: ignore[misc]

        three.kill()  # its agent goes on
        wait_states([one, two], {"n1": "alive", "n2": "alive", "n3": "failed"})
        wait_event(one, "member.failed", "although its Serf agent lives")
        until(lambda: serves(one), "the others serve", SETTLE_S)
        three.start()
        wait_states(cluster.nodes, {"n1": "alive", "n2": "alive", "n3": "alive"})
        wait_event(one, "member.joined", "n3")
        one.wait_ready("default/hello", 3, SETTLE_S)

        check_agent_comes_back(cluster, agents[1])
        one.wait_ready("default/hello", 3, SETTLE_S)


def check_members(one: Peer, agents: list[RealAgent]) -> None:
    """`orca nodes` and `orca gossip` have their columns; `serf members` has the tags."""
    until(lambda: members_of(one)["n2"]["rtt_ms"] is not None, "a round trip is estimated", SETTLE_S)
    seen = members_of(one)["n2"]
    assert seen["zone"] == "z1"
    assert seen["heard_age_ms"] is not None
    assert f"id={members_of(one)['n3']['id']}" in agents[0].line_of("real3")
    said = one.cli("gossip").good().out
    assert f"membership is kept by the Serf agent at {agents[0].rpc}" in said
    assert one.get("/v1/gossip").json()["problem"] == ""


def check_events(one: Peer, two: Peer, agents: list[RealAgent]) -> None:
    one.cli("gossip", "send", "hello", "there").good()
    wait_event(two, "cluster.event", "event hello: there")
    assert serf(agents[2].rpc, "event", "from-serf").returncode == 0
    wait_event(one, "cluster.event", "event from-serf")
    refused = one.cli("gossip", "keys", "rotate")
    assert refused.code != 0
    assert "not encrypted" in refused.err + refused.out


def check_agent_comes_back(cluster: Cluster, agent: RealAgent) -> None:
    """An agent that dies takes its node out of the cluster and the node says why; back, it has its tags again."""
    one, two, three = cluster.nodes
    agent.kill()
    wait_states([one, three], {"n1": "alive", "n2": "failed", "n3": "alive"})
    wait_event(two, "agent.lost", f"the Serf agent at {agent.rpc} cannot be asked")
    assert "cannot be asked" in two.get("/v1/gossip").json()["problem"]
    refused = two.cli("gossip", "send", "hello")
    assert refused.code == 5, refused
    assert agent.rpc in refused.err
    assert serves(two), "what runs goes on, and is routed to"
    agent.start()
    wait_states(cluster.nodes, {"n1": "alive", "n2": "alive", "n3": "alive"})
    wait_event(two, "agent.found", agent.rpc)
    assert f"id={two.id}" in agent.line_of("real2")


def test_a_node_with_gossip_of_its_own_and_nodes_beside_agents_are_one_cluster() -> None:
    """So a cluster can be moved from one backend to the other, node by node."""
    with real_agents(3) as agents, delegated_cluster(agents, own=1) as cluster:
        wait_states(cluster.nodes, {"n1": "alive", "n2": "alive", "n3": "alive"})
        cluster.wait_settled()
        deploy_hello(cluster.nodes[2], 3)
        for node in cluster.nodes:
            node.wait_ready("default/hello", 3, SETTLE_S)
        assert "message of unknown type" not in agents[0].log, "no fact went to an agent"
        one, two, three = cluster.nodes
        two.kill()
        wait_states([one, three], {"n1": "alive", "n2": "failed", "n3": "alive"})
        two.start()
        wait_states([one, two, three], {"n1": "alive", "n2": "alive", "n3": "alive"})

        three.kill()
        three.config = delegating(agents[2], more=UNSEALED)
        three.start()
        until(lambda: f"id={three.id}" in agents[0].line_of("real3"), "it stands beside its agent now", SETTLE_S)
        agents[0].wait_state(three.id, "failed")  # the member that it was
        cluster.wait_settled()
        for node in cluster.nodes:
            node.wait_ready("default/hello", 3, SETTLE_S)


def test_keys_of_all_agents_are_rotated_through_the_agent() -> None:
    with real_agents(2, encrypt=KEY) as agents, delegated_cluster(agents[:1]) as cluster:
        (node,) = cluster.nodes
        until(lambda: len(node.get("/v1/nodes").json()["members"]) == 2, "both agents are seen", SETTLE_S)
        until(lambda: node.get("/v1/gossip").json()["is_encrypted"], "the agent said that it seals", SETTLE_S)

        def rotate() -> bool:
            """Of a query between so few members one in 27 misses somebody; people do it again then."""
            done = node.cli("gossip", "keys", "rotate")
            return done.code == 0 and "done: only the new key is left" in done.out

        until(rotate, "the key is rotated", SETTLE_S)
        for agent in agents:
            assert KEY not in serf(agent.rpc, "keys", "-list").stdout
        shown = node.cli("gossip", "keys", "show").good().out.strip()
        assert shown in serf(agents[1].rpc, "keys", "-list").stdout
        check_newcomer(cluster, agents)


def check_newcomer(cluster: Cluster, agents: list[RealAgent]) -> None:
    """A node that gossips itself gets the new key where it joins, and one more that came about while it was away."""
    (node,) = cluster.nodes
    late = Peer(
        node.directory / "late", name="late", config=f'[gossip]\nprofile = "local"\nseeds = ["{agents[1].address}"]\n'
    )
    late.directory.mkdir()
    late.peers, late.token = (node.address,), node.make_token()
    cluster.nodes.append(late)
    late.start()
    wait_states(cluster.nodes, {"n1": "alive", "late": "alive"})
    late.kill()
    wait_states([node], {"n1": "alive", "late": "failed"})
    assert f"{late.id} failed" in node.cli("gossip", "keys", "rotate").err, "nobody is locked out"

    def rotate() -> bool:
        return node.cli("gossip", "keys", "rotate", "--allow-absent").code == 0

    until(rotate, "the key is rotated", SETTLE_S)
    late.start()
    wait_states(cluster.nodes, {"n1": "alive", "late": "alive"})


def test_a_node_starts_without_its_agent_and_finds_it_when_it_comes(tmp_path: Path) -> None:
    agent = RealAgent(tmp_path, name="late")
    node = Peer(tmp_path, config=delegating(agent))
    try:
        node.start()
        wait_event(node, "agent.lost", f"the Serf agent at {agent.rpc} cannot be asked")
        assert node.write("kept", "alone").status in CHANGED, "it is a cluster of its own"
        agent.start()
        wait_event(node, "agent.found", agent.rpc)
        until(lambda: f"id={node.id}" in agent.line_of("late"), "the agent has its tags", SETTLE_S)
        assert node.get("/v1/gossip").json()["problem"] == ""
    finally:
        node.kill()
        if agent.process is not None:
            agent.kill()


def test_an_agent_that_refuses_the_key_is_named_and_ends_nothing_that_runs() -> None:
    with real_agents(1) as (agent,), tempfile.TemporaryDirectory(prefix="orca-node-") as made:
        node = Peer(Path(made), config=delegating(agent, "wrong"))
        try:
            node.start()
            wait_event(node, "agent.lost", "refuses gossip.agent.key")
            assert "refuses gossip.agent.key" in node.get("/v1/gossip").json()["problem"]
        finally:
            node.kill()
