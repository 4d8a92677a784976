"""Lamport time (Lamport 1978): an order of events without clocks."""

from typing import Final

LTIME_MAX: Final = 2**63 - 1
"""Above it a claim is refused, so that adding one never leaves the 64 bits of the wire."""
LTIME_JUMP_MAX: Final = 2**40
"""A claim further ahead is refused: a million events a second for twelve days come to less,
and nobody can use up the range of the clock with a few packets."""


class LamportClock:
    """A counter that is always later than everything seen; starts at 1."""

    def __init__(self) -> None:
        self._time = 1

    @property
    def time(self) -> int:
        """The time that the next thing said will carry."""
        return self._time

    def is_credible(self, ltime: int) -> bool:
        """Whether a peer may claim that time at all."""
        return 0 <= ltime <= min(LTIME_MAX, self._time + LTIME_JUMP_MAX)

    def witness(self, ltime: int) -> None:
        """Be later than `ltime`, which must be credible."""
        assert self.is_credible(ltime), f"time {ltime} was not checked: the clock stands at {self._time}"
        self._time = max(self._time, ltime + 1)

    def stamp(self) -> int:
        """The time for something said now; the clock moves on."""
        ltime = self._time
        self._time += 1
        return ltime
