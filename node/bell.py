"""How one part of a node wakes others: by a plain call that returns at once.

A loop that looks whether there is something to do costs as much as the looking, whatever it finds; an idle node is to
do nothing. So what may give somebody work rings a bell, and who has nothing to do waits for it.
"""

import math

import trio


class Bell:
    """Wakes every task that waits, however many rings there were meanwhile."""

    def __init__(self) -> None:
        self._rings = 0
        self._rung = trio.Event()

    @property
    def rings(self) -> int:
        """How often it was rung. Note it before you look: a ring while you look is not missed then."""
        return self._rings

    def ring(self) -> None:
        """Wake whoever waits; returns at once."""
        self._rings += 1
        self._rung.set()
        self._rung = trio.Event()

    async def wait(self, heard: int, longest_s: float = math.inf) -> None:
        """Return once there were more than `heard` rings, or after `longest_s`, which may be infinite."""
        with trio.move_on_after(max(0.0, longest_s)):
            while self._rings <= heard:
                await self._rung.wait()
