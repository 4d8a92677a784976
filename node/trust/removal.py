"""What a node does that hears that it was removed from its cluster: it says so, and takes no commands any more.

Its peers tell it when they close its connections, and whenever it knocks again. What it runs goes on: nobody
else can know whether that is still needed. It is not kept over a restart, after which the first peer tells it anew.
"""

from collections.abc import Callable
from typing import Final

import structlog

from orca.errors import RemovedError

_log = structlog.get_logger("orca.trust")
WAY_OUT: Final = (
    "what runs here goes on until you stop it; to come back as a new node, stop this one, move its data directory "
    "away, and join with a token of `orca token create` on a node of the cluster"
)


class Removal:
    """Whether this node was removed; `tell` passes it on to those who look at the node, once."""

    def __init__(self) -> None:
        self.reason = ""
        self.tell: Callable[[str], None] = lambda _reason: None

    def heard(self, error: RemovedError) -> None:
        """A peer, whose certificate is good, says so."""
        if not self.reason:
            self.reason = error.message
            _log.error("this node is none of its cluster any more", reason=error.message, way_out=WAY_OUT)
            self.tell(error.message)

    def check(self) -> None:
        """Raise RemovedError when a command makes no sense here any more."""
        if self.reason:
            raise RemovedError(f"this node takes no commands: {self.reason}", hint=WAY_OUT)
