"""The bed itself: hosts reach each other, and links are cut as asked."""

import subprocess
import sys

import pytest

from tests.cluster.namespaces import Host, hosts, need_namespaces

pytestmark = [pytest.mark.integration, pytest.mark.slow]


DIAL = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 1)
except ConnectionRefusedError:
    sys.exit(0)
except OSError:
    sys.exit(1)
"""


def reaches(one: Host, other: Host) -> bool:
    """Whether a port where nobody listens is refused by `other`, rather than never heard of."""
    return subprocess.run(one.command(sys.executable, "-c", DIAL, other.address), check=False).returncode == 0


def test_hosts_reach_each_other_until_a_link_is_cut_and_again_after_it() -> None:
    need_namespaces()
    with hosts(3) as (one, two, three):
        assert reaches(one, two)
        assert reaches(three, one)
        two.unplug()
        assert not reaches(one, two)
        assert reaches(one, three)
        two.plug()
        assert reaches(one, two)
        two.refuse("-s", one.address, "-p", "tcp")
        assert not reaches(one, two)
        assert reaches(three, two)
        two.accept_all()
        assert reaches(one, two)
