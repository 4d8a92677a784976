"""Orca nodes and real Serf agents in one cluster: each side's tools show and do what is so."""

import base64
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import RealAgent, real_agents, serf
from tests.cluster.cluster import SETTLE_S, Peer, running_cluster
from tests.integration.node import ROOT, until
from tests.ports import free_port
from tests.serf_agent import HOST, environ

pytestmark = [pytest.mark.serf, pytest.mark.integration, pytest.mark.slow]
KEY = base64.b64encode(bytes(range(32))).decode()
RPC_KEY = "for tests only"


def members_of(node: Peer) -> dict[str, dict[str, Any]]:
    """What `orca nodes --json` says, by name."""
    return {one["name"]: one for one in node.cli("nodes", "--json").good().json()["members"]}


def wait_states(node: Peer, expected: dict[str, str]) -> None:
    """Return once `orca nodes` on `node` shows exactly these states."""

    def look() -> bool:
        return {name: one["state"] for name, one in members_of(node).items()} == expected

    until(look, f"{node.name} sees {expected}", SETTLE_S)


def kinds_of(node: Peer) -> list[tuple[str, str]]:
    """What `orca events --cluster` says."""
    events = node.cli("events", "--cluster", "--json").good().json()["events"]
    return [(one["kind"], one["message"]) for one in events]


def wait_event(node: Peer, kind: str, words: str) -> None:
    until(lambda: any(k == kind and words in m for k, m in kinds_of(node)), f"{node.name} tells of {words}", SETTLE_S)


def test_a_sealed_mixed_cluster_is_seen_and_steered_from_both_sides() -> None:
    with running_cluster(2, config='[gossip]\nprofile = "local"\n') as cluster, ExitStack() as stack:
        one, two = cluster.nodes
        key = two.cli("gossip", "keys", "show").good().out.strip()
        real, other = stack.enter_context(real_agents(2, encrypt=key, join=[one.gossip_address]))
        alive = dict.fromkeys(("n1", "n2", real.name, other.name), "alive")
        for node in cluster.nodes:
            wait_states(node, alive)
        for node in cluster.nodes:
            until(lambda node=node: real.members().get(node.id) == "alive", "the agent lists the node", SETTLE_S)  # type: ignore[misc]
            assert f"name={node.name}" in real.line_of(node.id)
        check_columns(one, real)
        check_events(one, real, other)
        check_rotation(two, real, key)
        check_ends(one, two, real, other)


def check_columns(one: Peer, real: RealAgent) -> None:
    """`orca nodes` shows all that the issue of membership asks for, a plain agent included."""
    until(lambda: members_of(one)[real.name]["rtt_ms"] is not None, "a round trip was measured", SETTLE_S)
    members = members_of(one)
    agent, own, node = members[real.name], members["n1"], members["n2"]
    assert (agent["id"], agent["version"], agent["address"]) == (None, "", real.address)
    assert agent["state_age_ms"] >= 0
    assert agent["heard_age_ms"] is not None
    assert own["is_observer"]
    assert (node["zone"], node["version"]) == ("z1", own["version"])
    table = one.cli("nodes").good().out
    head, *lines = table.splitlines()
    assert head.split() == ["NAME", "ADDRESS", "STATE", "FOR", "HEARD", "RTT", "ZONE", "VERSION"]
    row = next(line for line in lines if line.startswith(real.name)).split()
    assert row[1:3] == [real.address, "alive"]
    assert row[-1] == "serf"
    assert "4 of 4 alive, as n1 (*) sees it" in table
    status = one.get("/v1/gossip").json()
    assert status["is_encrypted"]
    assert status["counts"]["probes"] > 0


def check_events(one: Peer, real: RealAgent, other: RealAgent) -> None:
    """User events travel both ways, and membership is in the history."""
    assert serf(real.rpc, "event", "from-serf", "some words").returncode == 0
    wait_event(one, "cluster.event", "event from-serf: some words")
    one.cli("gossip", "send", "from-orca", "x").good()
    until(lambda: other.has_heard("from-orca"), "the agent heard the event", SETTLE_S)
    wait_event(one, "member.joined", real.name)


def check_rotation(two: Peer, real: RealAgent, key: str) -> None:
    """`orca gossip keys rotate` replaces the key on agents too; who had it shown is in the audit."""

    def rotate() -> bool:
        done = two.cli("gossip", "keys", "rotate")
        assert done.code in {0, 1, 5}, done
        return done.code == 0 and "done: only the new key is left" in done.out

    until(rotate, "the key is rotated", SETTLE_S)
    listed = serf(real.rpc, "keys", "-list").stdout
    assert key not in listed
    assert two.cli("gossip", "keys", "show").good().out.strip() in listed
    assert "show_gossip_key" in two.cli("audit").good().out
    (report,) = two.cli("gossip", "keys", "list", "--json").good().json()["reports"]
    assert len(report["keys"]) == 1


def check_ends(one: Peer, two: Peer, real: RealAgent, other: RealAgent) -> None:
    """A graceful leave and a kill are told apart on both sides, with the age of that knowledge."""
    assert serf(other.rpc, "leave").returncode == 0
    two.kill()
    killed_at = time.monotonic()
    wait_states(one, {"n1": "alive", "n2": "failed", real.name: "alive", other.name: "left"})
    failed = members_of(one)["n2"]
    age_s = time.monotonic() - killed_at
    assert failed["state_age_ms"] <= failed["heard_age_ms"] <= (age_s + 5) * 1000, "it fell silent before it failed"
    real.wait_state(two.id, "failed")
    wait_event(one, "member.left", other.name)
    wait_event(one, "member.failed", "n2")


def test_the_real_command_line_works_against_a_node() -> None:
    port = free_port()
    config = f'[gossip]\nkey = "{KEY}"\nprofile = "local"\n'
    with (
        running_cluster(1, config=f'{config}[gossip.rpc]\nkey = "{RPC_KEY}"\nport = {port}\n') as cluster,
        real_agents(1, encrypt=KEY, join=[cluster.nodes[0].gossip_address]) as (real,),
    ):
        (node,) = cluster.nodes
        rpc = f"{HOST}:{port}"
        real.wait_state(node.id, "alive")
        assert node.get("/v1/gossip").json()["rpc"] == rpc

        def said(*words: str, timeout_s: float = 60.0) -> str:
            done = serf(rpc, *words, timeout_s=timeout_s)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
            return done.stdout

        assert {line.split()[0] for line in said("members").splitlines()} == {node.id, real.name}
        assert "zone=z0" in said("members", "-name", node.id)
        said("event", "deploy", "web")
        until(lambda: real.has_heard("deploy"), "the agent heard the event", SETTLE_S)
        assert f"Ack from '{real.name}'" in said("query", "-timeout=2s", "load")
        said("tags", "-set", "tier=db")
        until(lambda: "tier=db" in real.line_of(node.id), "the agent knows the new tag")
        refused = serf(rpc, "tags", "-set", "cluster=other")
        assert refused.returncode != 0
        assert "cluster" in refused.stderr + refused.stdout
        until(lambda: f"{KEY} [2/2]" in " ".join(said("keys", "-list").split()), "both have the key", SETTLE_S)
        until(lambda: "contacted all live nodes" in said("reachability"), "all are reachable", SETTLE_S)
        assert f"name = {node.id}" in said("info")
        until(lambda: serf(rpc, "rtt", node.id, real.name).returncode == 0, "a distance is known", SETTLE_S)
        check_monitor(rpc)
        check_keys(rpc)
        assert "Graceful leave complete" in said("leave")
        real.wait_state(node.id, "left")
        assert node.process is not None
        assert node.process.wait(20) == 0, "a node that left ends, as an agent does"


def check_monitor(rpc: str) -> None:
    """`serf monitor` shows what happens."""
    line = ["serf", "monitor", f"-rpc-addr={rpc}", f"-rpc-auth={RPC_KEY}", "-log-level=debug"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ()) as process:
        assert process.stdout is not None
        try:
            for _ in range(20):  # the first ones may come before it listens
                serf(rpc, "event", "-coalesce=false", "seen")
                shown, _, _ = select.select([process.stdout], [], [], 0.5)
                if shown:
                    break
            assert any("seen" in process.stdout.readline() for _ in range(20))
        finally:
            process.kill()


def check_keys(rpc: str) -> None:
    """Without the key nothing is answered."""
    for key in ("wrong", ""):
        refused = serf(rpc, "members", key=key)
        assert refused.returncode != 0
        assert "uthentication" in refused.stderr + refused.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[gossip.rpc]\nhost = "0.0.0.0"\n', "set gossip.rpc.key"),
        (f'[gossip]\nbackend = "serf"\nkey = "{KEY}"\n', "gossip.key is of no use"),
        ("[gossip.agent]\nport = 7374\n", "nothing asks it"),
    ],
    ids=["an open port without a key", "a key that nobody uses", "an agent that nobody asks"],
)
def test_settings_that_contradict_each_other_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "orca", "up", "--no-docker", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 2, done
    assert words in done.stderr
    assert str(file) in done.stderr
