"""Five processes heal their group, and start it anew when it cannot heal: `orca quorum`, `orca quorum recover`."""

import subprocess
import sys
import time

import pytest

from tests.cluster.cluster import ELECTION_TIMEOUT_S, SETTLE_S, Cluster, Peer, running_cluster
from tests.integration.node import ROOT, until

REPLACE_AFTER_S = 3
CONFIG = f"[cluster]\nvoters = 3\nvoter_replace_after_s = {REPLACE_AFTER_S}\n"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def orca(node: Peer, *words: str) -> subprocess.CompletedProcess[str]:
    """`orca WORDS...` against `node`."""
    command = [sys.executable, "-m", "orca", *words, "--node", f"http://127.0.0.1:{node.api}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def seated(cluster: Cluster, node: Peer) -> list[Peer]:
    """The nodes that vote, as `node` knows them."""
    names = cluster.voters(node)
    return [one for one in cluster.nodes if one.name in names]


def test_voter_that_is_killed_for_good_is_replaced_and_the_next_write_takes_an_election_at_most() -> None:
    with running_cluster(5, config=CONFIG) as cluster:
        leader = cluster.wait_settled()
        cluster.write("kept", "before")
        leader.kill()
        killed_at = time.monotonic()
        cluster.write("kept", "after")
        took_s = time.monotonic() - killed_at
        new_leader = cluster.wait_settled()
        assert leader.name not in cluster.voters(new_leader), "its seat went to somebody who lives"
        said = orca(new_leader, "quorum").stdout
        assert "votes" in said or "voter" in said, said
        cluster.wait_words("kept", ["before", "after"])
        print(f"first write {took_s:.2f} s after the leader was killed")  # noqa: T201
        assert took_s < 20 * ELECTION_TIMEOUT_S, "an election, not a time-out of people's patience"


def test_group_that_lost_its_quorum_for_good_is_started_anew_from_a_survivor() -> None:
    with running_cluster(5, config=CONFIG) as cluster:
        leader = cluster.wait_settled()
        cluster.write("kept", "before")
        cluster.wait_words("kept", ["before"])
        refused = orca(cluster.nodes[-1], "quorum", "recover", "--yes")
        assert refused.returncode != 0, "a group that decides is not started anew"
        assert "lead" in (refused.stdout + refused.stderr), "it says who leads"

        voters = seated(cluster, leader)
        survivors = [node for node in cluster.nodes if node not in voters]
        for node in voters:
            node.kill()
        until(
            lambda: (quorum := survivors[0].quorum()) is not None and not quorum["has_quorum"],
            "a survivor knows that the quorum is gone",
            SETTLE_S,
        )

        def recovers() -> bool:
            done = orca(survivors[0], "quorum", "recover", "--yes")
            print(done.stdout, done.stderr)  # noqa: T201
            return done.returncode == 0

        until(recovers, "the survivor begins anew", SETTLE_S)
        cluster.write("kept", "anew")
        cluster.wait_words("kept", ["before", "anew"])

        cluster.restart_dead()
        cluster.wait_settled()
        cluster.wait_words("kept", ["before", "anew"])
        epochs = {quorum["epoch"] for node in cluster.nodes if (quorum := node.quorum()) is not None}
        assert len(epochs) == 1, "those who came back follow the new life of the group"
        cluster.write("kept", "together")
        cluster.wait_words("kept", ["before", "anew", "together"])
