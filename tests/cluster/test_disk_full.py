"""The disk of a node is full: it steps back, the others go on, and it is whole again once there is room."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import SETTLE_S, Cluster, Peer, same_words
from tests.integration.node import until

SIZE_MIB = 24
PADDING = 50_000
"""So large that a write needs room that the store has not taken yet."""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@contextlib.contextmanager
def small_disks(cluster: Cluster) -> Iterator[None]:
    """The directory of each node is a file system of its own."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("a small file system needs root, and CI has to have it")
        pytest.skip("a small file system needs root")
    with contextlib.ExitStack() as stack:
        for node in cluster.nodes:
            path = str(node.directory)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "orca-test", path], check=True)
            stack.callback(subprocess.run, ["umount", "-l", path], check=True)
        stack.callback(cluster.kill_all)
        yield


def fill(node: Peer) -> Path:
    """Take all the room that its disk has."""
    ballast = node.directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_leader_whose_disk_is_full_lets_another_lead_and_comes_back_with_room() -> None:
    with tempfile.TemporaryDirectory(prefix="orca-cluster-") as made:
        cluster = Cluster(Path(made), 3, "[cluster]\nvoters = 3\nvoter_replace_after_s = 600\n")
        with small_disks(cluster):
            cluster.start()
            leader = cluster.wait_settled()
            cluster.write("kept", "before")
            ballast = fill(leader)
            others = [node for node in cluster.nodes if node is not leader]
            words = ["before"]
            for number in range(5):
                words.append(f"full{number}")
                cluster.write("kept", words[-1], through=others[number % 2], padding=PADDING)
            new = cluster.wait_leader(other_than=leader)
            assert new in others
            for node in others:
                until(same_words(node, "kept", words), f"{node.name} has all", SETTLE_S)
            assert leader.is_running, f"a full disk ended the process:\n{leader.log[-2000:]}"
            ballast.unlink()
            cluster.wait_settled()
            cluster.write("kept", "room")
            cluster.wait_words("kept", [*words, "room"])
