"""The faults of gossip: which there are, and how much of each."""

from typing import Final

from simulations.faults import Knob

KNOBS: Final[dict[str, Knob]] = {
    # Chances a packet. Streams only get slower.
    "loss": Knob(least=0.005, most=0.25),
    "duplication": Knob(least=0.01, most=0.3),
    "reordering": Knob(least=0.01, most=0.3),
    # Mean seconds a packet takes.
    "slow_network": Knob(least=0.01, most=0.08, exists=0.25),
    # Mean seconds from one to the next.
    "partition": Knob(least=10, most=40, exists=0.35),
    "one_way": Knob(least=8, most=40, exists=0.3),
    "clog": Knob(least=2, most=15, exists=0.25),
    "crash": Knob(least=8, most=40, exists=0.5),
    "leave": Knob(least=15, most=60, exists=0.35),
    "join": Knob(least=15, most=60, exists=0.35),
    "pause": Knob(least=3, most=20, exists=0.4),
    "stall": Knob(least=1, most=10, exists=0.4),
    # Mean seconds that a slow member takes for each message, and how long one partition lasts.
    "slow_member": Knob(least=0.02, most=0.3, exists=0.3),
    "long_partition": Knob(least=60, most=200, exists=0.15),
}
CONFUSING: Final = ("partition", "one_way", "clog", "slow_network", "long_partition", "pause", "slow_member")
"""Faults after which the living may be taken for dead by those who cannot hear them, or only late.

Without any of them nobody in full health may be, whatever else happens. A member that is slow for long
accuses others and does not read their answer; of that there is a rate, which the tables of experiments show.
"""
