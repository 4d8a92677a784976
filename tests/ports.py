"""Ports for what the tests start: free, apart from each other, and never given to outgoing connections."""

import os
import random
import socket

_WORKERS_MAX = 8
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS_MAX
_PORTS = range(20_000 + _WORKER, 32_000, _WORKERS_MAX)
"""Below those that the system gives to outgoing connections: who comes back after a minute finds its own still free.

Each of several processes that test at once has ports of its own.
"""
_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP and UDP port that nobody has, and that no outgoing connection gets."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
                tcp.bind((host, port))
                udp.bind((host, port))
        except OSError:
            continue
        _given.add(port)
        return port
