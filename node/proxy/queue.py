"""Requests that wait for a copy of their service, bounded in number and in time."""

from collections.abc import Callable, Mapping

import trio

from orca.model.ids import ServiceId


class RequestQueue:
    """Who waits for which service. Whoever changes the route table says so with `table_changed`."""

    def __init__(self) -> None:
        self._counts: dict[ServiceId, int] = {}
        self._changed = trio.Event()

    def table_changed(self) -> None:
        """Let everybody who waits look at the new table."""
        if self._counts:
            self._changed.set()
            self._changed = trio.Event()

    def total(self) -> int:
        """How many requests wait now."""
        return sum(self._counts.values())

    def counts(self) -> Mapping[ServiceId, int]:
        """How many requests wait now for each service for which any does."""
        return self._counts

    async def wait(self, service: ServiceId, is_over: Callable[[], bool], *, deadline: float, count_max: int) -> bool:
        """Wait until `is_over`, which is asked whenever the table has changed; True when it came to be.

        False at `deadline` (trio's time), and at once when `count_max` requests wait for `service` already.
        """
        if self._counts.get(service, 0) >= count_max:
            return False
        self._counts[service] = self._counts.get(service, 0) + 1
        try:
            with trio.move_on_at(deadline):
                while not is_over():
                    await self._changed.wait()
                return True
            return False
        finally:
            left = self._counts.pop(service) - 1
            if left:
                self._counts[service] = left
