"""One stream as its session keeps it."""

from collections import deque

import msgspec

from node.mesh.session.framing import Priority, StreamId
from orca.model.units import Instant


class Stream(msgspec.Struct, kw_only=True, eq=False):
    """Both directions. Who sends END has finished its own; with both finished and all read, the stream is gone."""

    id: StreamId
    priority: Priority

    # To the peer.
    credit: int
    """Bytes that the peer takes at present."""
    queue: deque[memoryview] = msgspec.field(default_factory=deque)
    queued: int = 0
    is_ready: bool = False
    """It stands in the line of its priority."""
    wants_end: bool = False
    """END follows what is queued."""
    has_ended: bool = False
    """END was sent, or nothing more may be."""

    # From the peer.
    allowance: int
    """Bytes that the peer may send at present."""
    unread: int = 0
    """Bytes handed to the user, who has not taken them yet."""
    owed: int = 0
    """Bytes taken, of which the peer was not told yet."""
    is_finished: bool = False
    """The peer sent END."""

    is_released: bool = False
    """The user is done with it: what comes is dropped, and when all is sent it ends."""
    linger_until: Instant = Instant(0.0)

    @property
    def is_open(self) -> bool:
        """At least one direction goes on: it counts against the limit on streams."""
        return not (self.has_ended and self.is_finished)
