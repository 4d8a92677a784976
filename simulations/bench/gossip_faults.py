"""Membership under faults: a quarter of the members stalling, and a cluster cut in two.

Stalls are Lifeguard's experiment: SIGSTOP to a quarter of the members at once, for five
seconds out of six. Who is stopped does not answer, so its burial is not counted as false; what counts
is whom else the group buries, and how soon it finds one that is killed meanwhile.

For the cut the members live in two network namespaces, half in each, with a cable between
them that a firewall cuts without a word. It is repaired when both sides have buried each other and
the first, frequent attempts to find the others are over.
"""

import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from simulations.bench.gossip_members import Fleet, Place, fleet_of

STOPPED_S: Final = 5.0
RUNNING_S: Final = 1.0
STALLS_S: Final = 60.0
"""At least; kills come every third of it, and the last one is waited for."""
KILLS: Final = 3
BURIED_S: Final = 120.0
LONELY_S: Final = 60.0
"""Serf and we try to reach lost members ever more rarely, at least every half minute from then on."""
HEALED_S: Final = 180.0
START_S: Final = 90.0
_HOSTS: Final = ("10.77.0.1", "10.77.0.2")
_CABLE: Final = "cable0"


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """`false_deaths`: burials of healthy living members, by anybody. Seconds are medians, of healthy observers."""

    kind: str
    profile: str
    size: int
    false_deaths: int
    false_deaths_at_healthy: int
    first_s: float | None
    last_s: float | None


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: until each half had buried the other, and from the repair until all saw all again."""

    kind: str
    profile: str
    size: int
    buried_s: float | None
    healed_s: float | None


def gather(fleet: Fleet, size: int) -> None:
    """A cluster that is at rest. Raises RuntimeError when it does not come together."""
    for number in range(size):
        fleet.start(number)
    if fleet.until(lambda member: [("joined", member.name)], timeout_s=START_S) is None:
        raise RuntimeError(f"{fleet.kind}: {size} members did not start in {START_S:g} s")
    for member in fleet.members[1:]:
        fleet.join(member, 0)
    if fleet.until(fleet.everybody_else, timeout_s=START_S) is None:
        raise RuntimeError(f"{fleet.kind}: {size} members did not find each other in {START_S:g} s")
    fleet.pump(10.0)


class _Staller:
    """Stops and continues the first quarter; to be called often."""

    def __init__(self, fleet: Fleet) -> None:
        self.stalling = fleet.members[: max(1, len(fleet.members) // 4)]
        self._is_stopped = False
        self._turn_at = 0.0

    def turn(self, now: float) -> None:
        """Stop them or let them run, when it is time."""
        if now >= self._turn_at:
            self._is_stopped = not self._is_stopped
            self._turn_at = now + (STOPPED_S if self._is_stopped else RUNNING_S)
            self._signal(signal.SIGSTOP if self._is_stopped else signal.SIGCONT)

    def end(self) -> None:
        """Let them run for good."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for member in self.stalling:
            member.send_signal(number)


def measure_stalls(kind: str, profile: str, size: int) -> Stalled:
    """Run one cell; must be called inside a namespace of its own."""
    fleet = fleet_of(kind, profile)
    try:
        gather(fleet, size)
        staller = _Staller(fleet)
        healthy = fleet.members[len(staller.stalling) :]
        began = time.monotonic()
        fleet.on_turn = staller.turn
        firsts: list[float] = []
        lasts: list[float] = []
        victims = healthy[-KILLS:] if len(healthy) > KILLS + 1 else healthy[-1:]
        deaths: dict[str, float] = {}
        for victim in victims:
            fleet.pump(STALLS_S / (len(victims) + 1))
            deaths[victim.name] = asked = time.monotonic()
            fleet.kill(victim)
            healthy.remove(victim)
            times = _when_seen(fleet, ("failed", victim.name), [one.name for one in healthy], asked)
            firsts += [min(times) - asked] if times else []
            lasts += [max(times) - asked] if times else []
        fleet.pump(max(0.0, began + STALLS_S - time.monotonic()))
        fleet.on_turn = lambda _now: None
        staller.end()
        stalling = {member.name for member in staller.stalling}
        false = [
            member.name in stalling
            for member in fleet.members
            for at, (what, who) in member.record
            if what == "failed" and at >= began and who not in stalling and at < deaths.get(who, float("inf"))
        ]
        is_found = len(lasts) == len(victims)
        return Stalled(
            kind=kind,
            profile=profile,
            size=size,
            false_deaths=len(false),
            false_deaths_at_healthy=false.count(False),
            first_s=statistics.median(firsts) if is_found else None,
            last_s=statistics.median(lasts) if is_found else None,
        )
    finally:
        fleet.end()


def _when_seen(fleet: Fleet, sight: tuple[str, str], observers: list[str], since: float) -> list[float]:
    """When each observer saw that; empty when one did not in time."""
    end = since + BURIED_S
    watching = [member for member in fleet.members if member.name in observers]
    while time.monotonic() < end:
        times = [at for member in watching for at, said in member.record if said == sight and at >= since]
        if len(times) >= len(watching):
            return times
        fleet.pump(0.05)
    return []


def measure_split(kind: str, profile: str, size: int) -> Split:
    """Run one cell; must be called inside a namespace of its own."""
    with _cable() as places:
        fleet = fleet_of(kind, profile, lambda number: places[number % 2])
        try:
            gather(fleet, size)
            cut_at = time.monotonic()
            _firewall("-A", places)
            buried_s = _all_see(fleet, "failed", cut_at, BURIED_S)
            fleet.pump(LONELY_S)
            repaired_at = time.monotonic()
            _firewall("-D", places)
            return Split(
                kind=kind,
                profile=profile,
                size=size,
                buried_s=buried_s,
                healed_s=_all_see(fleet, "joined", repaired_at, HEALED_S),
            )
        finally:
            fleet.end()


def _all_see(fleet: Fleet, what: str, since: float, timeout_s: float) -> float | None:
    """Seconds until every member has seen that of the whole other half."""
    owed = [
        (member, (what, other.name))
        for member in fleet.members
        for other in fleet.members
        if other.number % 2 != member.number % 2
    ]
    while time.monotonic() < since + timeout_s:
        owed = [(member, sight) for member, sight in owed if not member.has_seen(sight, since)]
        if not owed:
            return time.monotonic() - since
        fleet.pump(0.1)
    return None


@contextmanager
def _cable() -> Iterator[tuple[Place, Place]]:
    """Our namespace and another one, with a cable between them."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as other:
        try:
            own = f"/proc/{other.pid}/ns/net"
            time.sleep(0.5)  # until it has left our namespace
            inside = ("nsenter", f"--net={own}")
            _run("ip", "link", "add", _CABLE, "type", "veth", "peer", "name", _CABLE, "netns", str(other.pid))
            for prefix, host in (((), _HOSTS[0]), (inside, _HOSTS[1])):
                _run(*prefix, "ip", "address", "add", f"{host}/24", "dev", _CABLE)
                _run(*prefix, "ip", "link", "set", _CABLE, "up")
                _run(*prefix, "ip", "link", "set", "lo", "up")
            yield Place(_HOSTS[0]), Place(_HOSTS[1], inside)
        finally:
            other.kill()


def _firewall(action: str, places: tuple[Place, Place]) -> None:
    """Cut (`-A`) or repair (`-D`) the cable.

    Where packets arrive: one that is stopped where it leaves is an error to its sender, and an
    agent that knows its own network to be broken accuses nobody.
    """
    for place in places:
        _run(*place.prefix, "iptables", "-w", action, "INPUT", "-i", _CABLE, "-j", "DROP")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
