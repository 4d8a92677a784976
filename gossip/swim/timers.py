"""Named points in time of one machine."""

import heapq
from collections.abc import Hashable
from typing import Final

from orca.model.units import Instant

NEVER: Final = Instant(float("inf"))


class Timers:
    """At most one time for each key; setting it again moves it. Ties go by the order of setting."""

    def __init__(self) -> None:
        self._due: dict[Hashable, tuple[Instant, int]] = {}
        self._heap: list[tuple[Instant, int, Hashable]] = []
        self._serial = 0

    def set(self, key: Hashable, at: Instant) -> None:
        """`key` is due at `at`."""
        self._serial += 1
        self._due[key] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, key))
        if len(self._heap) > 64 + 4 * len(self._due):  # what was moved often leaves its old times behind
            self._heap = [(at, serial, key) for key, (at, serial) in self._due.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """`key` is not due any more."""
        self._due.pop(key, None)

    def at(self, key: Hashable) -> Instant:
        """When `key` is due; never, when it is not set."""
        return self._due.get(key, (NEVER, 0))[0]

    def deadline(self) -> Instant:
        """The first time of all."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][:2]:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def pop(self, now: Instant) -> Hashable | None:
        """The first key that is due, which then is no longer set; None when none is."""
        if self.deadline() > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        return key
