"""Members of one cluster as processes: real Serf agents, or ours, watched by what they print.

Both kinds say at once, in one line each, what they see: who joined, failed or left,
and which user event reached them. Lines are stamped when they are read, on one clock.
"""

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 20_000
_SERF_LINE: Final = re.compile(
    r"EventMember(?P<what>Join|Failed|Leave): (?P<who>\S+)|messageUserEventType: (?P<event>\S+)"
)
_OWN_LINE: Final = re.compile(r"^(?P<what>joined|failed|left|event) (?P<who>\S+)$")
_SERF_WORDS: Final = {"Join": "joined", "Failed": "failed", "Leave": "left"}

Sight = tuple[str, str]
"""What was seen, and of whom: `("failed", "m3")`."""


class Place(NamedTuple):
    """Where a member runs: its address, and what to put before its commands."""

    host: str = HOST
    prefix: tuple[str, ...] = ()


def parse_serf(line: str) -> Sight | None:
    """What a line of a Serf agent's log tells."""
    found = _SERF_LINE.search(line)
    if found is None:
        return None
    return ("event", found["event"]) if found["event"] else (_SERF_WORDS[found["what"]], found["who"])


def parse_own(line: str) -> Sight | None:
    """What a line of `simulations.bench.gossip_member` tells."""
    found = _OWN_LINE.match(line.strip())
    return None if found is None else (found["what"], found["who"])


class Member:
    """One process; `record` is what it said and when, `seen` when it first said each thing."""

    def __init__(self, number: int, place: Place, command: Sequence[str], parse: Callable[[str], Sight | None]) -> None:
        self.number = number
        self.name = f"m{number}"
        self.port = port_of(number)
        self.place = place
        self.seen: dict[Sight, float] = {}
        self.record: list[tuple[float, Sight]] = []
        self._parse = parse
        self._rest = b""
        self.process = subprocess.Popen(
            [*place.prefix, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def output(self) -> int:
        """The descriptor to read."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self, at: float) -> None:
        """Take in what it printed until `at`."""
        try:
            data = os.read(self.output, 65_536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            sight = self._parse(line.decode(errors="replace"))
            if sight is not None:
                self.seen.setdefault(sight, at)
                self.record.append((at, sight))

    def has_seen(self, sight: Sight, since: float) -> bool:
        """Whether it said so after that time."""
        return any(at >= since and said == sight for at, said in self.record)

    def send_signal(self, number: int) -> None:
        """SIGSTOP or SIGCONT."""
        self.process.send_signal(number)

    def tell(self, words: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(words.encode() + b"\n")


class Fleet:
    """All members of a cell."""

    kind = "?"

    def __init__(self, profile: str, place_of: Callable[[int], Place] = lambda _number: Place()) -> None:
        self.profile = profile
        self.place_of = place_of
        self.on_turn: Callable[[float], None] = lambda _now: None
        self.members: list[Member] = []
        self._selector = selectors.DefaultSelector()

    def start(self, number: int, join: int | None = None) -> Member:
        """Start member `number`; it joins member `join` as soon as it runs."""
        member = self._make(number, join)
        self.members.append(member)
        self._selector.register(member.output, selectors.EVENT_READ, member)
        return member

    def join(self, member: Member, to: int) -> None:
        """Let a running member join another, without waiting."""
        raise NotImplementedError

    def event(self, member: Member, name: str) -> None:
        """Let it send a user event, without waiting."""
        raise NotImplementedError

    def address_of(self, number: int) -> str:
        """Where member `number` gossips."""
        return f"{self.place_of(number).host}:{port_of(number)}"

    def _make(self, number: int, join: int | None) -> Member:
        raise NotImplementedError

    def kill(self, member: Member) -> None:
        """`kill -9`."""
        member.process.kill()
        member.process.wait()
        self._selector.unregister(member.output)
        self.members.remove(member)

    def pump(self, seconds: float) -> None:
        """Read what members print for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.on_turn(time.monotonic())
            for key, _ in self._selector.select(min(left, 0.1)):
                key.data.read(time.monotonic())

    def until(self, sights: Callable[[Member], Sequence[Sight]], *, timeout_s: float) -> list[float] | None:
        """When each member had seen all of its `sights`; None when that took too long."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if all(sight in member.seen for member in self.members for sight in sights(member)):
                return [max((member.seen[sight] for sight in sights(member)), default=0.0) for member in self.members]
            self.pump(0.02)
        return None

    def everybody_else(self, member: Member) -> list[Sight]:
        """What a member has seen when it knows all others."""
        return [("joined", other.name) for other in self.members if other is not member]

    def cpu_s(self) -> list[float]:
        """CPU seconds that each has used, by the scheduler's own count, which is finer than ticks."""
        return [
            sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
            for member in self.members
            for tasks in [Path(f"/proc/{member.process.pid}/task")]
        ]

    def rss_mb(self) -> list[float]:
        """Resident memory of each."""
        return [psutil.Process(member.process.pid).memory_info().rss / 2**20 for member in self.members]

    def end(self) -> None:
        """Kill what still runs."""
        for member in list(self.members):
            self.kill(member)


class SerfFleet(Fleet):
    """Debian's `serf agent`."""

    kind = "serf"

    def _make(self, number: int, join: int | None) -> Member:
        place = self.place_of(number)
        command = [
            "serf", "agent", f"-node=m{number}", f"-bind={place.host}:{port_of(number)}",
            f"-rpc-addr={HOST}:{_rpc_port(number)}", f"-profile={self.profile}", "-log-level=debug",
        ]  # fmt: skip
        if join is not None:
            # Joins in the background and tries again, as a service unit of an operator would.
            command += [f"-retry-join={self.address_of(join)}", "-retry-interval=1s"]
        return Member(number, place, command, parse_serf)

    def join(self, member: Member, to: int) -> None:
        """By its command line."""
        self._command(member, "join", self.address_of(to))

    def event(self, member: Member, name: str) -> None:
        """By its command line, not coalesced."""
        self._command(member, "event", "-coalesce=false", name)

    def _command(self, member: Member, verb: str, *words: str) -> None:
        address = f"-rpc-addr={HOST}:{_rpc_port(member.number)}"
        command = [*member.place.prefix, "serf", verb, address, *words]
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class OrcaFleet(Fleet):
    """Our gossip alone, in a process of its own."""

    kind = "orca"

    def _make(self, number: int, join: int | None) -> Member:
        place = self.place_of(number)
        command = [
            sys.executable, "-m", "simulations.bench.gossip_member",
            f"m{number}", place.host, str(port_of(number)), self.profile,
        ]  # fmt: skip
        member = Member(number, place, command, parse_own)
        if join is not None:
            self.join(member, join)
        return member

    def join(self, member: Member, to: int) -> None:
        """By its standard input."""
        member.tell(f"join {self.address_of(to)}")

    def event(self, member: Member, name: str) -> None:
        """By its standard input."""
        member.tell(f"event {name}")


def fleet_of(kind: str, profile: str, place_of: Callable[[int], Place] = lambda _number: Place()) -> Fleet:
    """An empty fleet."""
    return SerfFleet(profile, place_of) if kind == "serf" else OrcaFleet(profile, place_of)


def port_of(number: int) -> int:
    """Where member `number` gossips."""
    return FIRST_PORT + number


def _rpc_port(number: int) -> int:
    return FIRST_PORT + 5000 + number
