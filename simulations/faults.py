"""The mood of a run: which faults exist at all, then how often (swarm testing), and whether each of them bit.

Groce, Zhang, Eide, Chen, Regehr: *Swarm Testing* (ISSTA 2012). With everything switched on, faults hide each
other: a cluster that never has a leader never installs a snapshot. So each seed switches most knobs off.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from simulations.world import Chance


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: the range of its amount when it exists, and how often it does."""

    least: float
    most: float
    exists: float = 0.4


KNOBS: Final[dict[str, Knob]] = {
    # Chances a message.
    "loss": Knob(least=0.005, most=0.2),
    "duplication": Knob(least=0.01, most=0.3),
    "reordering": Knob(least=0.01, most=0.3),
    # Mean seconds a message takes, and a sync.
    "slow_network": Knob(least=0.01, most=0.08, exists=0.25),
    "slow_disk": Knob(least=0.01, most=0.1, exists=0.25),
    # Mean seconds from one to the next.
    "partition": Knob(least=2, most=8),
    "one_way": Knob(least=1, most=6),
    "clog": Knob(least=0.5, most=4, exists=0.3),
    "crash": Knob(least=1.5, most=8, exists=0.5),
    "crash_all": Knob(least=6, most=15, exists=0.2),
    "pause": Knob(least=1.5, most=6),
    "disk_full": Knob(least=2, most=8, exists=0.25),
    "transfer": Knob(least=1, most=5, exists=0.3),
    "change": Knob(least=0.5, most=3, exists=0.4),
    "kill": Knob(least=3, most=9, exists=0.3),
    # Chance an effect.
    "crash_between": Knob(least=0.0003, most=0.005, exists=0.5),
    # How much faster or slower a clock may run.
    "drift": Knob(least=0.01, most=0.2, exists=0.4),
    # One part in so many entries: the log is compacted after 4 to 40 entries.
    "compaction": Knob(least=4, most=40, exists=0.6),
}


class Mood(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of each knob; 0 for a fault that does not exist in this run."""

    amounts: dict[str, float]

    def __getitem__(self, knob: str) -> float:
        """How much of `knob`; KeyError for one that is none."""
        return self.amounts[knob]

    def has(self, knob: str) -> bool:
        """Whether the fault exists."""
        return self.amounts[knob] > 0

    def __str__(self) -> str:
        return " ".join(f"{knob}={amount:.3g}" for knob, amount in self.amounts.items() if amount) or "calm"


def draw_mood(chance: Chance, knobs: Mapping[str, Knob] = KNOBS) -> Mood:
    """The faults of one run. Amounts are drawn on a logarithmic scale, so that rare is as likely as frequent."""
    amounts = {}
    for name, knob in knobs.items():
        exists, place = chance.random() < knob.exists, chance.random()
        amounts[name] = knob.least * (knob.most / knob.least) ** place if exists else 0.0
    return Mood(amounts=amounts)


def calm(knobs: Mapping[str, Knob] = KNOBS, /, **amounts: float) -> Mood:
    """No faults but those named."""
    unknown = sorted(set(amounts) - set(knobs))
    assert not unknown, f"no knob is called {', '.join(unknown)}; there are {', '.join(knobs)}"
    return Mood(amounts={name: float(amounts.get(name, 0)) for name in knobs})


class Bites:
    """How often each knob had an effect, over one run or many."""

    def __init__(self) -> None:
        self.drawn: dict[str, int] = {}
        self.effects: dict[str, int] = {}

    def add(self, mood: Mood, effects: dict[str, int]) -> None:
        """Count one run in; an effect of a fault that does not exist is a bug of the simulator."""
        for knob in mood.amounts:
            self.drawn[knob] = self.drawn.get(knob, 0) + mood.has(knob)
            self.effects[knob] = self.effects.get(knob, 0) + effects[knob]
            assert mood.has(knob) or not effects[knob], f"{knob} is off, and had {effects[knob]} effects"

    def toothless(self) -> list[str]:
        """Knobs that were drawn and never had an effect."""
        return [knob for knob in self.drawn if self.drawn[knob] and not self.effects[knob]]
