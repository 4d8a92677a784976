"""How many starts at once: a lane for what prepares, a lane for what launches."""

from collections.abc import Iterator
from typing import Final

from node.reconciler.events import Action
from orca.model.ids import AllocationId

LANES: Final = (Action.PREPARE, Action.LAUNCH)


class Lanes:
    """Counts what is in flight and keeps who waits, first come first served."""

    def __init__(self, width: int) -> None:
        self._free: dict[Action, int] = dict.fromkeys(LANES, width)
        self._waiting: dict[AllocationId, None] = {}

    def join(self, allocation: AllocationId) -> None:
        """Wait for a place; keeps the one it has."""
        self._waiting[allocation] = None

    def leave(self, allocation: AllocationId) -> None:
        """Wait no more."""
        self._waiting.pop(allocation, None)

    def waiting(self) -> Iterator[AllocationId]:
        """Who waits, oldest first, for as long as any lane is free; `leave` may be called meanwhile."""
        for allocation in list(self._waiting):
            if not any(self._free.values()):
                return
            yield allocation

    def is_free(self, lane: Action) -> bool:
        """Whether one more may begin in `lane`."""
        return self._free[lane] > 0

    def began(self, action: Action) -> None:
        """An action was ordered."""
        if action in self._free:
            self._free[action] -= 1

    def ended(self, action: Action) -> None:
        """An action came to its end."""
        if action in self._free:
            self._free[action] += 1

    def free(self, lane: Action) -> int:
        """How many may begin in `lane`."""
        return self._free[lane]
