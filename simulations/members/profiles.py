"""What the profiles cost and how fast they find a crash: when all is well, and while a quarter of the members stalls.

Two kinds of stalls. *short*: processes stand still for 1.5 of 2 seconds, which is less than any profile takes to
bury somebody. *deaf*: messages are stuck for 16 of 17 seconds while timers go on, so the stalled accuse the healthy.
Between lies what no tuning can change: who detects a crash in four seconds takes a silence of five for one.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gossip.swim import PROFILES, SwimConfig
from simulations.members.experiment import Outcome, Setting, percentile, repeat

TROUBLES: Final = ("none", "short", "deaf")


def setting_of(swim: SwimConfig, members: int, trouble: str) -> Setting:
    """One kind of trouble for a profile."""
    stall_s, work_s = {"none": (0.0, 1.0), "short": (1.5, 0.5), "deaf": (16.0, 1.0)}[trouble]
    return Setting(
        swim=swim,
        members=members,
        stalling=0 if trouble == "none" else members // 4,
        stall_s=stall_s,
        work_s=work_s,
        blocks_messages=trouble == "deaf",
        crashes=4,
        crash_every_s=15.0,
        rest_s=20.0,
    )


def print_table(say: Callable[[str], None], members: int, seeds: Sequence[int], names: Sequence[str] = ()) -> int:
    """One line a profile and trouble; 1 when `orca` does not keep what it promises against `lan`."""
    say(f"{members} members; FP: living members taken for dead, FP-: healthy ones by healthy ones, in a member's hour")
    head = f"{'':<7}{'stalls':<7}{'first p50':>10}{'p99':>6}{'last p50':>10}{'p99':>6}{'missed':>8}"
    say(head + f"{'FP/h':>8}{'FP-/h':>8}{'packets/s':>11}{'bytes/s':>9}")
    found: dict[tuple[str, str], Outcome] = {}
    for trouble in TROUBLES:
        for name in names or PROFILES:
            outcome = found[name, trouble] = repeat(setting_of(PROFILES[name], members, trouble), seeds)
            say(line_of(name, trouble, outcome))
    broken = broken_promises(found) if ("lan", "none") in found and ("orca", "none") in found else []
    for promise in broken:
        say(f"orca does not keep this: {promise}")
    return 1 if broken else 0


def line_of(name: str, trouble: str, outcome: Outcome) -> str:
    """Of the table."""
    healthy_per_h = outcome.healthy * 3600 / outcome.member_s
    line = f"{name:<7}{trouble:<7}{percentile(outcome.first_s, 0.5):>10.1f}{percentile(outcome.first_s, 0.99):>6.1f}"
    line += f"{percentile(outcome.last_s, 0.5):>10.1f}{percentile(outcome.last_s, 0.99):>6.1f}{outcome.missed:>8}"
    line += f"{outcome.false_positives_per_hour:>8.1f}{healthy_per_h:>8.1f}"
    return line + f"{outcome.packets_per_s:>11.1f}{outcome.bytes_per_s:>9.0f}"


def broken_promises(found: dict[tuple[str, str], Outcome]) -> list[str]:
    """Twice as fast as `lan`, at most 1.5 times its bytes, and no more false positives."""
    broken = []
    for trouble in TROUBLES:
        lan, orca = found["lan", trouble], found["orca", trouble]
        if percentile(orca.last_s, 0.5) * 2 > percentile(lan.last_s, 0.5):
            broken.append(f"half of the time of lan to the last detection, stalls {trouble}")
        if trouble != "deaf" and orca.false_positives > lan.false_positives:
            broken.append(f"no more false positives than lan, stalls {trouble}")
        if orca.healthy > lan.healthy:
            broken.append(f"no more healthy members buried by healthy ones than with lan, stalls {trouble}")
    if found["orca", "none"].bytes_per_s > 1.5 * found["lan", "none"].bytes_per_s:
        broken.append("1.5 times the bytes of lan")
    return broken
