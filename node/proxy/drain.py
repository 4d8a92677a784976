"""How many requests each allocation has in flight, and when a drain is over: pure."""

import msgspec

from orca.model.ids import AllocationId
from orca.model.units import Instant


class _Drain(msgspec.Struct, frozen=True, kw_only=True):
    """A promise to wait for the requests of one allocation until `deadline`."""

    deadline: Instant


class InFlight:
    """Counts of requests, and the drains that wait for them.

    A drain does not stop new requests by itself: the caller has taken the target out of
    the route table before, and what still starts (a retry of a table read just before)
    is waited for like the rest.
    """

    def __init__(self) -> None:
        self._counts: dict[AllocationId, int] = {}
        self._drains: dict[AllocationId, _Drain] = {}

    def started(self, allocation: AllocationId) -> None:
        """One more request is on its way to `allocation`."""
        self._counts[allocation] = self._counts.get(allocation, 0) + 1

    def ended(self, allocation: AllocationId) -> None:
        """One request to `allocation` is over, however it ended."""
        left = self._counts.get(allocation, 0) - 1
        assert left >= 0, f"a request to {allocation} ended that never started"
        if left:
            self._counts[allocation] = left
        else:
            del self._counts[allocation]

    def count(self, allocation: AllocationId) -> int:
        """Requests in flight to `allocation`."""
        return self._counts.get(allocation, 0)

    def total(self) -> int:
        """Requests in flight to all of them."""
        return sum(self._counts.values())

    def begin(self, allocation: AllocationId, now: Instant, timeout_s: float) -> None:
        """Start a drain; a second one for the same allocation may only shorten the wait."""
        deadline = Instant(now + max(0.0, timeout_s))
        running = self._drains.get(allocation)
        if running is None or deadline < running.deadline:
            self._drains[allocation] = _Drain(deadline=deadline)

    def is_draining(self, allocation: AllocationId) -> bool:
        """Whether `begin` was called and `finish` was not."""
        return allocation in self._drains

    def deadline(self, allocation: AllocationId) -> Instant:
        """When the drain of `allocation` is over at the latest; infinite without one."""
        drain = self._drains.get(allocation)
        return Instant(float("inf")) if drain is None else drain.deadline

    def is_over(self, allocation: AllocationId, now: Instant) -> bool:
        """Whether nothing is in flight any more or the time is up."""
        return self.count(allocation) == 0 or now >= self.deadline(allocation)

    def finish(self, allocation: AllocationId) -> int:
        """End the drain: how many requests are still in flight and will be cut off."""
        self._drains.pop(allocation, None)
        return self.count(allocation)

    def check_invariants(self) -> None:
        """Raises AssertionError when a count is not positive."""
        for allocation, count in self._counts.items():
            assert count > 0, f"{allocation} is kept with {count} requests in flight"
