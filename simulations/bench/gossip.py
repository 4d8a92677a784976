"""Membership beside real Serf agents: `python -m simulations.bench.gossip [PART...] [SIZE...]`.

Each cell, one kind of member and one size, runs in a network namespace of its own, so
that what the loopback interface counts is the cluster's traffic and nothing else. The parts:

- `calm`: a cluster forms in a burst (everybody joins the first at once), and on it the rest: quiet
  traffic, an event to all, late joiners, `kill -9`s.
- `stall`: a quarter of the members stalls (`gossip_faults`).
- `split`: two halves, cut and healed (`gossip_faults`).

Orders are given through each kind's own door (Serf: its command line, ours: a line on
standard input), and what is counted starts when the order is given.

Figures of 2 cores, Serf 0.9.4 on `lan` beside ours on `lan` and on `orca`, all of one run; seconds, each member's share
of traffic and CPU. One member may miss another in a burst and wait for a push/pull, as happened to Serf at 64:

|                  | Serf, 16 | lan, 16 | orca, 16 | Serf, 64 | lan, 64 | orca, 64 |
|------------------|---------:|--------:|---------:|---------:|--------:|---------:|
| burst of joins   |     0.55 |    0.45 |     0.28 |       73 |     1.2 |      1.0 |
| one joins        |     0.35 |    0.03 |     0.04 |     0.57 |    0.24 |     0.23 |
| event to all     |     0.38 |    0.01 |     0.01 |     0.55 |    0.36 |     0.15 |
| kill to first    |      6.7 |     6.8 |      2.9 |      8.6 |     9.5 |      4.1 |
| kill to last     |      7.0 |     6.8 |      3.1 |      8.8 |     9.7 |      4.1 |
| datagrams/s      |      2.0 |     2.1 |      4.1 |      2.0 |     2.1 |      4.1 |
| bytes/s          |      268 |     302 |      376 |      308 |     363 |      363 |
| CPU, %           |     0.28 |    0.16 |     0.28 |     0.27 |    0.18 |     0.31 |
| resident, MB     |       15 |      37 |       37 |       15 |      37 |       37 |

With a quarter of the members stalling nobody was taken for dead wrongly at 16, nor at 64 on `lan`, by Serf or by ours.

Detection on `lan` has Serf's constants and Serf's times; its medians differ by a tenth from run to run.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from simulations.bench.gossip_faults import HEALED_S, Split, Stalled, measure_split, measure_stalls
from simulations.bench.gossip_members import Fleet, fleet_of
from simulations.bench.report import Line, say, show

SIZES: Final = {"calm": (3, 16, 32, 64), "stall": (16, 64), "split": (16,)}
QUIET_S: Final = 20.0
KILLS: Final = 5
JOINS: Final = 3
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


def measure_cell(kind: str, profile: str, size: int) -> Cell:
    """Run one cell; must be called inside the namespace."""
    fleet = fleet_of(kind, profile)
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
    """Median over some newcomers, from the order to join until all see all; the process runs before."""
    took: list[float] = []
    for number in range(size, size + JOINS):
        late = fleet.start(number)
        fleet.pump(3.0)
        asked = time.monotonic()
        fleet.join(late, 1)
        times = fleet.until(fleet.everybody_else, timeout_s=60.0)
        if times is None:
            return None
        took.append(max(times) - asked)
    return statistics.median(took)


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


def run_cell(part: str, kind: str, profile: str, size: int) -> bytes:
    """The cell in a network namespace of its own; what it measured, as JSON."""
    say(f"gossip: {part}: {kind} ({profile}), {size} members ...")
    words = [_CELL, part, kind, profile, str(size)]
    command = ["unshare", "--net", sys.executable, "-m", "simulations.bench.gossip", *words]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    say(f"gossip: {done.stdout.decode()}")
    return done.stdout


def _calm_lines(size: int) -> list[Line]:
    limit, *cells = (msgspec.json.decode(run_cell("calm", *kind, size), type=Cell) for kind in _KINDS)
    lines: list[Line] = []
    for cell in cells:
        goals = _goals(cell.profile)
        for what, unit, field in _FIELDS:
            goal, is_ratio = goals.get(field, (None, True))
            name = f"{size} members, {cell.profile}: {what}"
            lines.append(_line(name, unit, getattr(cell, field), getattr(limit, field), goal, is_ratio=is_ratio))
    return lines


def _stall_lines(size: int) -> list[Line]:
    limit, *cells = (msgspec.json.decode(run_cell("stall", *kind, size), type=Stalled) for kind in _KINDS)
    lines: list[Line] = []
    for cell in cells:
        name = f"{size} members, a quarter stalling, {cell.profile}: "
        goal = 0.5 if cell.profile == "orca" else 1.0
        lines += [
            _line(name + "false deaths", "", cell.false_deaths, limit.false_deaths, limit.false_deaths, is_ratio=False),
            _line(name + "kill to first", "s", cell.first_s, limit.first_s, goal),
            _line(name + "kill to last", "s", cell.last_s, limit.last_s, goal),
        ]
    return lines


def _split_lines(size: int) -> list[Line]:
    limit, *cells = (msgspec.json.decode(run_cell("split", *kind, size), type=Split) for kind in _KINDS)
    return [
        _line(
            f"{size} members, two halves, {cell.profile}: repair to all see all",
            "s",
            cell.healed_s,
            HEALED_S if limit.healed_s is None else limit.healed_s,
            60.0,
            is_ratio=False,
        )
        for cell in cells
    ]


def _line(
    what: str, unit: str, result: float | None, limit: float | None, goal: float | None, *, is_ratio: bool = True
) -> Line:
    return Line(
        bench="gossip",
        what=what,
        unit=unit,
        result=float("inf") if result is None else result,
        limit=_LONG_S if limit is None else limit,
        limit_name="(serf, lan)",
        goal=goal,
        is_goal_of_ratio=is_ratio,
    )


_KINDS: Final = (("serf", "lan"), ("orca", "lan"), ("orca", "orca"))
_PARTS: Final = {"calm": _calm_lines, "stall": _stall_lines, "split": _split_lines}
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


def main(parts: Sequence[str] = tuple(SIZES), sizes: Sequence[int] = ()) -> list[Line]:
    """All cells of these parts, at their own sizes unless others are given; or why there are none."""
    missing = [name for name in ("serf", "unshare", "nsenter", "ip", "iptables") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        say(f"gossip: left out: {', '.join(missing) + ' missing' if missing else 'a network namespace needs root'}")
        return []
    return [line for part in parts for size in sizes or SIZES[part] for line in _PARTS[part](size)]


def _measure(part: str, kind: str, profile: str, size: int) -> Cell | Stalled | Split:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    measures: dict[str, Callable[[str, str, int], Cell | Stalled | Split]]
    measures = {"calm": measure_cell, "stall": measure_stalls, "split": measure_split}
    return measures[part](kind, profile, size)


def _main() -> None:
    words = sys.argv[1:]
    if words[:1] == [_CELL]:
        sys.stdout.buffer.write(msgspec.json.encode(_measure(words[1], words[2], words[3], int(words[4]))))
        return
    parts = [word for word in words if word in SIZES]
    show(main(parts or tuple(SIZES), [int(word) for word in words if word not in SIZES]))


if __name__ == "__main__":
    _main()
