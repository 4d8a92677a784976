"""Computers on one computer: network namespaces on a bridge of their own, which links can be cut.

Only what a node needs to believe that it is alone: an address, a loopback, a default route into the bridge. The file
system is shared, so whoever tests reaches a node by the unix socket in its data directory.
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest


def need_namespaces() -> None:
    """Skip the test where namespaces cannot be made; in CI that is a failure."""
    missing = [name for name in ("ip", "nsenter", "iptables") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        reason = f"needs root and {', '.join(missing) or 'nothing more'}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def _run(*command: str, is_checked: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0 or not is_checked, f"{' '.join(command)}: {done.stderr.decode().strip()}"


@dataclass(frozen=True)
class Host:
    """A namespace: `name` and the address of its only link."""

    name: str
    address: str

    def command(self, *words: str) -> list[str]:
        """`words` to be run there."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *words]

    def run(self, *words: str) -> str:
        """The output of `words`, run there; asserts that they succeed."""
        done = subprocess.run(self.command(*words), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.decode().strip()}"
        return done.stdout.decode()

    def unplug(self) -> None:
        """Its link is down: nothing comes and nothing goes."""
        _run("ip", "-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Its link is up again."""
        _run("ip", "-n", self.name, "link", "set", "eth0", "up")
        _run("ip", "-n", self.name, "route", "replace", "default", "dev", "eth0", is_checked=False)

    def refuse(self, *match: str) -> None:
        """Drop what comes in and matches, as a firewall does: `refuse("-s", ADDRESS, "-p", "udp")`."""
        _run(*self.command("iptables", "-A", "INPUT", *match, "-j", "DROP"))

    def accept_all(self) -> None:
        """Take every rule of `refuse` back."""
        _run(*self.command("iptables", "-F", "INPUT"))


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Sequence[Host]]:
    """`count` namespaces that reach each other; whatever runs in them at the end loses its network."""
    tag = f"ot{os.getpid() % 10_000:04d}{random.randrange(100):02d}"
    bridge, switch = f"{tag}b", f"{tag}s"
    subnet = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
    made = [Host(f"{tag}n{number}", f"{subnet}.{number}") for number in range(1, count + 1)]
    with contextlib.ExitStack() as stack:
        # The bridge has a namespace of its own: the rules of this computer's firewall (Docker's) do not reach it.
        _run("ip", "netns", "add", switch)
        stack.callback(_run, "ip", "netns", "del", switch, is_checked=False)
        _run("ip", "-n", switch, "link", "add", bridge, "type", "bridge")
        _run("ip", "-n", switch, "link", "set", bridge, "up")
        for number, host in enumerate(made, 1):
            _run("ip", "netns", "add", host.name)
            stack.callback(_run, "ip", "netns", "del", host.name, is_checked=False)
            port = f"p{number}"
            _run("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _run("ip", "-n", switch, "link", "set", port, "master", bridge, "up")
            _run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
            host.plug()
        yield made
