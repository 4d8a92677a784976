"""Five processes heal their group, and `orca quorum` shows it."""

import subprocess
import sys
import time

import pytest

from tests.cluster.cluster import ELECTION_TIMEOUT_S, Peer, running_cluster
from tests.integration.node import ROOT

REPLACE_AFTER_S = 3
CONFIG = f"[cluster]\nvoters = 3\nvoter_replace_after_s = {REPLACE_AFTER_S}\n"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def orca(node: Peer, *words: str) -> subprocess.CompletedProcess[str]:
    """`orca WORDS...` against `node`."""
    command = [sys.executable, "-m", "orca", *words, "--node", f"http://127.0.0.1:{node.api}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


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
