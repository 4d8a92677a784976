"""Which streams of the peer are taken."""

from typing import Final

from node.mesh.limits import TokenBucket
from node.mesh.session.framing import Priority
from node.mesh.session.limits import Limits
from orca.errors import PeerProtocolError
from orca.model.units import Instant

REFUSALS_MAX: Final = 1000
"""A peer that was refused so many streams, faster than it may open them, means harm."""


class Admission:
    """Counts the peer's streams and how fast they come."""

    def __init__(self, limits: Limits, now: Instant) -> None:
        self._limits = limits
        self._bucket = TokenBucket(limits.opens_per_s, max(1, limits.opens_per_s), now)
        self._refusals = 0
        self.open = 0
        """Of the peer's streams."""
        self.urgent = 0
        """Of those."""

    def refusal(self, priority: Priority, now: Instant) -> str:
        """Why one more is not taken; "" when it is. Raises PeerProtocolError for a flood of them."""
        if self._bucket.is_full(now):
            self._refusals = 0
        if not self._bucket.take(now):
            self._refusals += 1
            if self._refusals > REFUSALS_MAX:
                raise PeerProtocolError(f"a peer floods this node with new streams, {self._refusals} too many")
            return f"no more than {self._limits.opens_per_s} streams a second are taken"
        if self.open >= self._limits.streams_max:
            return f"{self.open} streams of yours are open, as many as are taken"
        if priority is Priority.URGENT and self.urgent >= self._limits.urgent_max:
            return f"{self.urgent} urgent streams of yours are open, as many as are taken"
        return ""

    def opened(self, priority: Priority) -> None:
        """One was taken."""
        self.open += 1
        self.urgent += priority is Priority.URGENT

    def closed(self, priority: Priority) -> None:
        """One is over."""
        self.open -= 1
        self.urgent -= priority is Priority.URGENT
