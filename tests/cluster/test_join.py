"""Joining, leaving and removing with real processes: killed in the middle, refused, shut out.

`ORCA_JOIN_KILLS` is how often a joiner is killed, and half as often a member that lets somebody in.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import SETTLE_S, Cluster, Peer, running_cluster
from tests.integration.node import ROOT, pause, until

LOCKED_OUT_S = 5.0
KILLS = int(os.environ.get("ORCA_JOIN_KILLS", "4"))
pytestmark = pytest.mark.integration


def newcomer(directory: Path, name: str = "new") -> Peer:
    (directory / name).mkdir()
    return Peer(directory / name, name=name)


def join(peer: Peer, token: str, *members: Peer, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """`orca join --join-only` to its end."""
    peer.peers, peer.token = tuple(one.address for one in members), token
    command = [*peer.up_command(), "--join-only"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ORCA_JOIN_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def tokens(member: Peer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = member.get("/v1/tokens").json()["tokens"]
    return found


def known_nodes(member: Peer) -> set[str]:
    """Names of the admitted nodes, as `member` has them."""
    quorum = member.quorum()
    return {one["name"] for one in quorum["members"]} if quorum is not None else set()


def test_wrong_used_expired_and_foreign_tokens_are_refused_by_name_and_nothing_changes(tmp_path: Path) -> None:
    with running_cluster(1) as cluster, running_cluster(1) as other:
        founder, stranger = cluster.nodes[0], other.nodes[0]
        token = founder.make_token()
        foreign = stranger.make_token()
        peer = newcomer(tmp_path)
        wrong = token[:-8] + "aaaaaaaa"
        cases = (
            ("orca-nonsense", 2, "this is no join token"),
            (wrong, 7, "is not valid here"),
            (foreign, 7, "Nothing was sent"),
        )
        for text, code, words in cases:
            done = join(peer, text, founder)
            assert done.returncode == code, done.stderr
            assert words in done.stderr
            assert text not in done.stdout + done.stderr, "the token is repeated nowhere"
        short = founder.make_token(ttl_s=0.2)
        pause(0.5)
        expired = join(peer, short, founder)
        assert expired.returncode == 7
        assert "expired" in expired.stderr
        assert "orca token create" in expired.stderr
        assert known_nodes(founder) == {"n1"}
        assert join(peer, token, founder).returncode == 0
        used = join(newcomer(tmp_path, "late"), token, founder)
        assert used.returncode == 7
        assert "used up" in used.stderr
        again = join(peer, token, founder)
        assert again.returncode == 0, again.stderr
        assert known_nodes(founder) == {"n1", "new"}
        redeemed = {one["id"]: one["nodes"] for one in tokens(founder)}
        assert redeemed[token.split("-")[2]] == ["new"], "the same node takes one use"
        secrets = [text.split("-")[3] for text in (token, foreign, short)]
        assert not [one for one in secrets if one in founder.log + stranger.log]


def test_a_joiner_that_is_killed_again_and_again_becomes_one_node_with_one_use(tmp_path: Path) -> None:
    with running_cluster(1) as cluster:
        founder = cluster.nodes[0]
        token = founder.make_token()
        peer = newcomer(tmp_path)
        chance = random.Random(7)
        for _ in range(KILLS):
            peer.peers, peer.token = (founder.address,), token
            peer.spawn()
            listing = Path(f"/proc/{peer.pid}/cmdline").read_bytes()
            assert token.encode() not in listing, "the listing of processes shows no token"
            pause(chance.uniform(0.3, 2.0))
            peer.kill()
        try:
            peer.peers, peer.token = (founder.address,), token
            peer.start()
            until(lambda: known_nodes(founder) == {"n1", "new"}, "the newcomer is known", SETTLE_S)
            founder.write("kept", "word")
            until(lambda: peer.words("kept") == ["word"], "the newcomer follows", SETTLE_S)
            (made,) = tokens(founder)
            assert (made["uses_left"], made["nodes"]) == (0, ["new"])
            assert token.split("-")[3] not in peer.log + founder.log
        finally:
            peer.kill()


def test_a_member_that_is_killed_while_it_lets_somebody_in_lets_it_in_later(tmp_path: Path) -> None:
    with running_cluster(1) as cluster:
        founder = cluster.nodes[0]
        token = founder.make_token()
        peer = newcomer(tmp_path)
        chance = random.Random(11)
        try:
            for _ in range(KILLS // 2):
                if peer.is_running:
                    peer.kill()
                peer.peers, peer.token = (founder.address,), token
                peer.spawn()
                pause(chance.uniform(0.8, 1.6))
                founder.kill()
                founder.start()
            peer.wait_up()
            until(lambda: known_nodes(founder) == {"n1", "new"}, "the newcomer is known", SETTLE_S)
            (made,) = tokens(founder)
            assert made["nodes"] == ["new"]
        finally:
            peer.kill()


def gossip_keys(member: Peer) -> set[str]:
    """Fingerprints of the keys that members have."""
    reply = member.get("/v1/gossip/keys", timeout_s=60)
    return set(reply.json()["reports"][0]["keys"]) if reply.status == 200 else set()


def locked_out(cluster: Cluster, removed: Peer) -> None:
    """No other node counts `removed` among its own, those that had a connection with it have said why, and it knows."""
    others = [node for node in cluster.nodes if node is not removed]
    words = f"{removed.name} ({removed.id}) was removed"
    for node in others:
        until(
            lambda node=node: removed.name not in known_nodes(node),  # type: ignore[misc]
            f"{node.name} is done with {removed.name}",
            LOCKED_OUT_S,
        )
    until(lambda: any(words in node.log for node in others), f"{removed.name} is turned away", LOCKED_OUT_S)
    until(lambda: words in removed.log, f"{removed.name} hears why", LOCKED_OUT_S)


def test_a_removed_node_is_locked_out_everywhere_within_five_seconds_and_for_ever(tmp_path: Path) -> None:
    with running_cluster(3) as cluster:
        leader = cluster.wait_settled()
        removed = next(node for node in cluster.nodes if node is not leader)
        before = removed.id
        old_keys = gossip_keys(leader)
        began = time.monotonic()
        reply = leader.cli("nodes", "rm", removed.name).good()
        assert "no node of this cluster any more" in reply.out
        locked_out(cluster, removed)
        print(f"locked out after {time.monotonic() - began:.2f} s")  # noqa: T201
        cluster.nodes.remove(removed)
        try:
            until(lambda: len(now := gossip_keys(leader)) == 1 and now != old_keys, "gossip has a new key", SETTLE_S)
            cluster.write("kept", "after", through=leader)
            assert removed.words("kept") == [], "it hears nothing any more"
            status = removed.cli("status").good()
            assert f"{removed.name} ({removed.id}) was removed from this cluster" in status.out
            told = removed.cli("token", "create")
            assert told.code == 7, told
            assert "takes no commands" in told.err
            assert "orca token create" in told.err, "and the way out"
            assert removed.get("/v1/services").json()["services"] is not None
            until(lambda: "secrets have a new data key" in leader.log, "the key that it knew is replaced", SETTLE_S)
            os.kill(removed.pid, signal.SIGKILL)
            removed.process.wait(10)  # type: ignore[union-attr]
            refused = join(removed, leader.make_token(), leader)
            assert refused.returncode == 7
            assert before in refused.stderr
            assert "empty data directory" in refused.stderr
        finally:
            if removed.is_running:
                removed.kill()


def test_a_node_leaves_hands_over_its_seat_stops_and_comes_back_as_the_same_node() -> None:
    with running_cluster(4) as cluster:
        leader = cluster.wait_settled()
        before = leader.id
        done = leader.cli("leave", timeout_s=120).good()
        assert "left" in done.out
        assert leader.process is not None
        assert leader.process.wait(20) == 0
        cluster.wait_settled()
        others = cluster.living
        until(lambda: leader.name not in known_nodes(others[0]), "it is no node any more", SETTLE_S)
        failed = subprocess.run(leader.up_command(), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert failed.returncode == 7
        assert "has left it" in failed.stderr
        leader.peers, leader.token = (others[0].address,), others[0].make_token()
        leader.start()
        assert leader.get("/v1/node").json()["facts"]["id"] == before
        cluster.write("kept", "word")
        cluster.wait_words("kept", ["word"])


def test_a_change_of_the_ca_gives_every_node_a_new_certificate_and_drops_the_old_one() -> None:
    with running_cluster(3) as cluster:
        leader = cluster.wait_settled()
        old = leader.get("/v1/ca").json()["authorities"][0]["fingerprint"]
        token = leader.make_token()
        leader.cli("ca", "rotate").good()

        def is_over() -> bool:
            reply = leader.get("/v1/ca").json()
            (only, *more) = reply["authorities"]
            return not more and only["fingerprint"] != old and only["nodes"] == 3

        until(is_over, "one new CA, of which all nodes have a certificate", SETTLE_S)
        cluster.write("kept", "word")
        cluster.wait_words("kept", ["word"])
        with_old = join(newcomer(leader.directory), token, leader)
        assert with_old.returncode == 7
        assert "older than a change of its CA" in with_old.stderr
        leader.kill()
        cluster.wait_leader(other_than=leader)
        cluster.write("kept", "anew")
        leader.start()
        cluster.wait_words("kept", ["word", "anew"])
