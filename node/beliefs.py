"""What this node believes, for whoever waits for it to change."""

from collections.abc import Callable

import trio

from node.believed import Believed
from orca.model.units import WallMs


class BeliefTable(Believed):
    """The newest of what is known, and a counter of visible changes to wait on."""

    def __init__(self, wall: Callable[[], WallMs] = lambda: WallMs(0)) -> None:
        super().__init__(wall)
        self._changed = trio.Event()

    def bump(self) -> None:
        """Something that people can see has changed."""
        super().bump()
        self._changed.set()

    async def wait_change(self, after: int) -> int:
        """The counter, once it is higher than `after`."""
        while self.changes <= after:
            if self._changed.is_set():
                self._changed = trio.Event()
            await self._changed.wait()
        return self.changes
