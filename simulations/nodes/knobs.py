"""The faults of whole nodes and what people do meanwhile: which there are, and how much of each."""

from typing import Final

from simulations.faults import Knob

KNOBS: Final[dict[str, Knob]] = {
    # Chances a message. Connections only get slower.
    "loss": Knob(least=0.005, most=0.1),
    "duplication": Knob(least=0.01, most=0.2),
    # Mean seconds a message takes, and a sync.
    "slow_network": Knob(least=0.01, most=0.05, exists=0.2),
    "slow_disk": Knob(least=0.01, most=0.1, exists=0.2),
    # Mean seconds from one to the next.
    "partition": Knob(least=10, most=30),
    "one_way": Knob(least=10, most=30, exists=0.25),
    "crash": Knob(least=4, most=20, exists=0.5),
    "power": Knob(least=8, most=30, exists=0.4),
    "away": Knob(least=15, most=40, exists=0.4),
    "pause": Knob(least=5, most=20, exists=0.3),
    "disk_full": Knob(least=8, most=30, exists=0.25),
    "clock_jump": Knob(least=5, most=20, exists=0.3),
    "death": Knob(least=1, most=8, exists=0.5),
    "engine": Knob(least=8, most=30, exists=0.3),
    # Chance an effect.
    "crash_between": Knob(least=0.0001, most=0.001, exists=0.3),
    # How much faster or slower a clock may run.
    "drift": Knob(least=0.01, most=0.1, exists=0.3),
    # Mean seconds that a slow node takes for each message of the gossip.
    "slow_node": Knob(least=0.005, most=0.05, exists=0.2),
    # So many entries, and the log is compacted.
    "compaction": Knob(least=10, most=80, exists=0.4),
    # What people do: mean seconds from one to the next.
    "deploy": Knob(least=1, most=6, exists=0.9),
    "staged": Knob(least=2, most=10, exists=0.5),
    "bad_image": Knob(least=4, most=20, exists=0.5),
    "scale": Knob(least=2, most=10, exists=0.6),
    "restart": Knob(least=4, most=20, exists=0.4),
    "drain": Knob(least=8, most=30, exists=0.4),
    "stop": Knob(least=5, most=20, exists=0.3),
}
PEOPLE: Final = ("deploy", "staged", "bad_image", "scale", "restart", "drain", "stop")
