"""How much of what is committed the store knows to be. Pure."""

import math
from typing import Final

from orca.model.ids import LogIndex
from orca.model.units import Instant

SAVE_S: Final = 0.25


class KnownCommits:
    """Decides when the commit index is worth a write of its own.

    Each write takes it along, but the last write of a burst comes before its own commit. Who
    restarts while there is no leader has only what was written to go by.
    """

    def __init__(self, saved: LogIndex, now: Instant) -> None:
        self._saved = saved
        self._saved_at = now

    def save(self, index: LogIndex | None, now: Instant) -> None:
        """A write took `index` along; None: it knew of none."""
        self._saved, self._saved_at = index or LogIndex(0), now

    def due_at(self, index: LogIndex) -> float:
        """When `index` is to be written by itself; never, when it was."""
        return self._saved_at + SAVE_S if index > self._saved else math.inf
