"""What was acknowledged a moment before all processes are killed is there when they are back.

`ORCA_POWER_CUTS` says how many times in a row; the full run is 200.
"""

import os

import pytest

from tests.cluster.cluster import SETTLE_S, allow_more_time, running_cluster, same_words
from tests.integration.node import until

TIMES = int(os.environ.get("ORCA_POWER_CUTS", "5"))
KEPT = 20
"""Revisions of a service that are kept."""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_write_acknowledged_just_before_all_are_killed_is_there_afterwards() -> None:
    """Each time through another node, the one without a vote included."""
    with running_cluster(4, config="[cluster]\nvoters = 3\n") as cluster:
        cluster.wait_settled()
        words: list[str] = []
        for number in range(TIMES):
            allow_more_time()
            words.append(f"w{number}")
            cluster.write("kept", words[-1], through=cluster.nodes[number % 4])
            cluster.kill_all()
            cluster.restart_dead()
            for node in cluster.nodes:
                until(same_words(node, "kept", words[-KEPT:]), f"{node.name} has {words[-1]}, cut {number}", SETTLE_S)
            if (number + 1) % 20 == 0:
                print(f"{number + 1} power cuts, nothing acknowledged lost", flush=True)  # noqa: T201
