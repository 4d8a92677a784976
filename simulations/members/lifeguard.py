"""The experiment of the Lifeguard paper, with the same switches: which part of it prevents how many false positives.

Dadgar, Phillips, Currey: *Lifeguard: Local Health Awareness for More Accurate Failure Detection* (arXiv 1707.00788).
A quarter of the members handle no messages for a while, again and again, while their timers go on. SWIM is what the
paper measures against: a fixed suspicion of 5 log10 n probe intervals; the parts are switched on one by one, as there,
with a suspicion that begins 6 times as long and three confirmations to end it, and a health of up to 8.

The paper had 128 agents in containers, this has as many machines as are asked for, on one clock. Our machine goes on
probing while its messages are stuck, where the threads of an agent wait in the first that they send: so stalled members
accuse more here than there. What is compared are ratios.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gossip.swim import LAN, SwimConfig
from simulations.members.experiment import Outcome, Setting, percentile, repeat

SWIM: Final = msgspec.structs.replace(
    LAN,
    suspicion_multiplier=5.0,
    suspicion_max_multiplier=1.0,
    confirmations_max=0,
    awareness_max=1,
    has_buddy_system=False,
)
LHA_PROBE: Final = msgspec.structs.replace(SWIM, awareness_max=8)
LHA_SUSPICION: Final = msgspec.structs.replace(SWIM, suspicion_max_multiplier=6.0, confirmations_max=3)
BUDDY: Final = msgspec.structs.replace(SWIM, has_buddy_system=True)
LIFEGUARD: Final = msgspec.structs.replace(LHA_SUSPICION, awareness_max=8, has_buddy_system=True)

CONFIGURATIONS: Final[dict[str, SwimConfig]] = {
    "SWIM": SWIM,
    "+ LHA-Probe": LHA_PROBE,
    "+ LHA-Suspicion": LHA_SUSPICION,
    "+ Buddy System": BUDDY,
    "Lifeguard (all)": LIFEGUARD,
}
STALLS: Final = ((2.0, 0.25), (8.0, 0.064), (8.0, 1.0), (16.0, 0.256))
"""Seconds without messages, and with: from shorter than a suspicion to longer."""
PUBLISHED: Final = "published: with all parts 50 to 100 times fewer false positives than SWIM"


def measure(swim: SwimConfig, members: int, seeds: Sequence[int]) -> Outcome:
    """All stalls with one configuration; every fifteen seconds a member that does not stall crashes."""
    total = Outcome()
    for stall_s, work_s in STALLS:
        setting = Setting(
            swim=swim,
            members=members,
            stalling=members // 4,
            stall_s=stall_s,
            work_s=work_s,
            crash_every_s=20.0,
            has_facts=False,
            blocks_messages=True,
            notices_stalls=False,
        )
        total.add(repeat(setting, seeds))
    return total


def ratio(swim: int, other: int) -> str:
    """How many times fewer."""
    return f"{swim / other:.1f}x" if other else ("-" if not swim else f">{swim}x")


def print_table(say: Callable[[str], None], members: int, seeds: Sequence[int]) -> int:
    """One line a configuration; 1 when Lifeguard does not prevent what it is there to prevent."""
    say(
        f"{members} members, {members // 4} of them stalling; FP-: of the healthy, by the healthy; detection in seconds"
    )
    head = f"{'':<17}{'FP':>7}{'fewer':>8}{'FP-':>7}{'fewer':>8}"
    say(head + f"{'first p50':>11}{'p99':>6}{'last p50':>10}{'p99':>6}{'packets/s':>11}{'bytes/s':>9}")
    first: Outcome | None = None
    outcome = Outcome()
    for name, swim in CONFIGURATIONS.items():
        outcome = measure(swim, members, seeds)
        first = first or outcome
        line = f"{name:<17}{outcome.false_positives:>7}{ratio(first.false_positives, outcome.false_positives):>8}"
        line += f"{outcome.healthy:>7}{ratio(first.healthy, outcome.healthy):>8}"
        line += f"{percentile(outcome.first_s, 0.5):>11.1f}{percentile(outcome.first_s, 0.99):>6.1f}"
        line += f"{percentile(outcome.last_s, 0.5):>10.1f}{percentile(outcome.last_s, 0.99):>6.1f}"
        say(line + f"{outcome.packets_per_s:>11.1f}{outcome.bytes_per_s:>9.0f}")
    say(PUBLISHED)
    assert first is not None, "there is a first configuration"
    return 0 if outcome.false_positives < first.false_positives and outcome.healthy * 10 <= first.healthy else 1
