"""The only sources of time, chance and new ids.

Made in `node/agent.py` (the real ones) and in `simulations/world.py` (virtual
ones); everything else takes them as arguments, so that a run can be replayed.
"""

from typing import Protocol

from orca.model.units import Instant, WallMs


class Clock(Protocol):
    """Two clocks: one to measure with, one to show to people."""

    def now(self) -> Instant:
        """Monotonic seconds."""
        ...

    def wall(self) -> WallMs:
        """Milliseconds since 1970 UTC, as far as this computer knows."""
        ...


class Rng(Protocol):
    """The part of `random.Random` that machines use."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def uniform(self, a: float, b: float) -> float:
        """A float between `a` and `b`."""
        ...


class IdSource(Protocol):
    """Makes ids that no one made before."""

    def fresh(self) -> str:
        """Twelve lower-case base-32 characters (60 random bits)."""
        ...
