"""A network between nodes on one computer that can be cut: each node has a loopback address of its own.

Rules stand in a chain of their own and match addresses of one random /24 below 127.77.0.0/16: nobody else's traffic.
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator

import pytest


class Firewall:
    """Drops what one host sends to another."""

    def __init__(self, chain: str, hosts: list[str]) -> None:
        self.hosts = hosts
        self._chain = chain

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Nothing gets from the first of each pair to the second any more."""
        for sender, to in pairs:
            _iptables("-A", self._chain, "-s", sender, "-d", to, "-j", "DROP")

    def split(self, side: Iterable[str]) -> None:
        """Two halves that do not hear each other."""
        here = set(side)
        pairs = [(a, b) for a in self.hosts for b in self.hosts if (a in here) != (b in here)]
        self.cut(pairs)

    def mend(self) -> None:
        """Everybody hears everybody."""
        _iptables("-F", self._chain)


def _iptables(*words: str) -> None:
    subprocess.run(["iptables", "-w", *words], check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def firewall(count: int) -> Iterator[Firewall]:
    """Hosts whose connections can be cut; gone at the end. Skips the test without root or iptables, never in CI."""
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        reason = "cutting a network needs root and iptables"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI has to have them")
        pytest.skip(reason)
    net = random.randrange(1, 255)
    chain, subnet = f"ORCA-TEST-{net}", f"127.77.{net}.0/24"
    _iptables("-N", chain)
    try:
        _iptables("-I", "OUTPUT", "-s", subnet, "-d", subnet, "-j", chain)
        yield Firewall(chain, [f"127.77.{net}.{number + 1}" for number in range(count)])
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _iptables("-D", "OUTPUT", "-s", subnet, "-d", subnet, "-j", chain)
        _iptables("-F", chain)
        _iptables("-X", chain)
