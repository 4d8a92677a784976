"""Membership beside real Serf agents: `python -m simulations.bench.gossip [SIZE...]`.

Each cell, one kind of member and one size, runs in a network namespace of its own, so
that what the loopback interface counts is the cluster's traffic and nothing else. Two
clusters a cell: one that forms in a burst (everybody joins the first at once), and on it
the rest: quiet traffic, an event to all, a late joiner, a `kill -9`.

Orders are given through each kind's own door (Serf: its command line, ours: a line on
standard input), and what is counted starts when the order is given.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from simulations.bench.gossip_members import Fleet, OrcaFleet, SerfFleet
from simulations.bench.report import Line, say, show

SIZES: Final = (3, 16, 32, 64)
QUIET_S: Final = 20.0
KILLS: Final = 3
_CELL: Final = "--cell"
_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 90.0
_LONG_S: Final = 120.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind did at one size; seconds, None for what never happened."""

    kind: str
    profile: str
    size: int
    burst_s: float | None
    packets_s: float
    bytes_s: float
    cpu_percent: float
    rss_mb: float
    event_s: float | None
    join_s: float | None
    first_s: float | None
    last_s: float | None


def _fleet(kind: str, profile: str) -> Fleet:
    return SerfFleet(profile) if kind == "serf" else OrcaFleet(profile)


def measure_cell(kind: str, profile: str, size: int) -> Cell:
    """Run one cell; must be called inside the namespace."""
    fleet = _fleet(kind, profile)
    try:
        for number in range(size):
            fleet.start(number)
        if fleet.until(lambda member: [("joined", member.name)], timeout_s=_START_S) is None:
            raise RuntimeError(f"{kind}: {size} members did not start in {_START_S:g} s")
        burst_s = _burst(fleet)
        fleet.pump(10.0)  # what a join stirs up comes to rest
        packets_s, bytes_s, cpu = _quiet(fleet)
        event_s = _event(fleet)
        join_s = _late_join(fleet, size)
        first, last = _kills(fleet)
        return Cell(
            kind=kind,
            profile=profile,
            size=size,
            burst_s=burst_s,
            packets_s=packets_s,
            bytes_s=bytes_s,
            cpu_percent=cpu,
            rss_mb=statistics.median(fleet.rss_mb()),
            event_s=event_s,
            join_s=join_s,
            first_s=first,
            last_s=last,
        )
    finally:
        fleet.end()


def _burst(fleet: Fleet) -> float | None:
    asked = time.monotonic()
    for member in fleet.members[1:]:
        fleet.join(member, 0)
    times = fleet.until(fleet.everybody_else, timeout_s=_LONG_S)
    if times is not None:
        return max(times) - asked
    for member in fleet.members[1:]:
        fleet.join(member, 0)  # so that the rest can be measured
    fleet.until(fleet.everybody_else, timeout_s=_LONG_S)
    return None


def _quiet(fleet: Fleet) -> tuple[float, float, float]:
    """Datagrams and bytes a second and CPU percent, for each member."""
    packets, size, cpu = _datagrams(), _loopback_bytes(), fleet.cpu_s()
    began = time.monotonic()
    fleet.pump(QUIET_S)
    took = time.monotonic() - began
    count = len(fleet.members)
    used = statistics.median(after - before for before, after in zip(cpu, fleet.cpu_s(), strict=True))
    return (
        (_datagrams() - packets) / took / count,
        (_loopback_bytes() - size) / took / count,
        100 * used / took,
    )


def _event(fleet: Fleet) -> float | None:
    asked = time.monotonic()
    fleet.event(fleet.members[0], "deploy")
    times = fleet.until(lambda _member: [("event", "deploy")], timeout_s=30.0)
    return None if times is None else max(times) - asked


def _late_join(fleet: Fleet, size: int) -> float | None:
    """From the order to join until all see all; the process runs before."""
    late = fleet.start(size)
    fleet.pump(3.0)
    asked = time.monotonic()
    fleet.join(late, 1)
    times = fleet.until(fleet.everybody_else, timeout_s=60.0)
    return None if times is None else max(times) - asked


def _kills(fleet: Fleet) -> tuple[float | None, float | None]:
    """Medians over some members of the time from `kill -9` to the first and to the last who knows."""
    firsts: list[float] = []
    lasts: list[float] = []
    for _ in range(min(KILLS, len(fleet.members) - 2)):
        victim = fleet.members[-1]
        asked = time.monotonic()
        fleet.kill(victim)
        sight = ("failed", victim.name)
        times = fleet.until(lambda _member, sight=sight: [sight], timeout_s=_LONG_S)  # type: ignore[misc]
        if times is None:
            return None, None
        firsts.append(min(times) - asked)
        lasts.append(max(times) - asked)
    return statistics.median(firsts), statistics.median(lasts)


def _datagrams() -> int:
    head, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:"))
    return int(values[head.index("OutDatagrams")])


def _loopback_bytes() -> int:
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def run_cell(kind: str, profile: str, size: int) -> Cell:
    """The cell in a network namespace of its own."""
    say(f"gossip: {kind} ({profile}), {size} members ...")
    command = ["unshare", "--net", sys.executable, "-m", "simulations.bench.gossip", _CELL, kind, profile, str(size)]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    cell = msgspec.json.decode(done.stdout, type=Cell)
    say(f"gossip: {cell}")
    return cell


def _lines(cells: list[Cell]) -> list[Line]:
    lines: list[Line] = []
    limits = {cell.size: cell for cell in cells if cell.kind == "serf"}
    for cell in cells:
        if cell.kind == "serf":
            continue
        limit = limits[cell.size]
        goals = _goals(cell.profile)
        for what, unit, field in _FIELDS:
            result, beside = getattr(cell, field), getattr(limit, field)
            goal, is_ratio = goals.get(field, (None, True))
            lines.append(
                Line(
                    bench="gossip",
                    what=f"{cell.size} members, {cell.profile}: {what}",
                    unit=unit,
                    result=float("inf") if result is None else result,
                    limit=_LONG_S if beside is None else beside,
                    limit_name="(serf, lan)",
                    goal=goal,
                    is_goal_of_ratio=is_ratio,
                )
            )
    return lines


_FIELDS: Final = (
    ("burst of joins", "s", "burst_s"),
    ("one joins, all see all", "s", "join_s"),
    ("event to all", "s", "event_s"),
    ("kill to first", "s", "first_s"),
    ("kill to last", "s", "last_s"),
    ("datagrams, each", "/s", "packets_s"),
    ("bytes, each", "B/s", "bytes_s"),
    ("CPU, each", "%", "cpu_percent"),
    ("RSS, each", "MB", "rss_mb"),
)


def _goals(profile: str) -> dict[str, tuple[float, bool]]:
    goals = {"burst_s": (5.0, False), "event_s": (1.0, False), "cpu_percent": (0.5, False)}
    if profile == "orca":
        return {**goals, "first_s": (0.5, True), "last_s": (0.5, True), "bytes_s": (1.5, True)}
    return {**goals, "join_s": (1.0, True), "first_s": (1.0, True), "last_s": (1.0, True)}


def main(sizes: tuple[int, ...] = SIZES) -> list[Line]:
    """All cells, or why there are none."""
    missing = [name for name in ("serf", "unshare", "ip") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        say(f"gossip: left out: {', '.join(missing) + ' missing' if missing else 'a network namespace needs root'}")
        return []
    cells = [
        run_cell(kind, profile, size)
        for size in sizes
        for kind, profile in (("serf", "lan"), ("orca", "lan"), ("orca", "orca"))
    ]
    return _lines(cells)


def _main() -> None:
    words = sys.argv[1:]
    if words[:1] == [_CELL]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        cell = measure_cell(words[1], words[2], int(words[3]))
        sys.stdout.buffer.write(msgspec.json.encode(cell))
        return
    show(main(tuple(map(int, words)) or SIZES))


if __name__ == "__main__":
    _main()
