"""What a replica's driver needs of the rest of the node. Pure: names and shapes."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from consensus.raft import Message
from consensus.replica import AppliedCommand
from consensus.storage import LogWrite
from orca.errors import StoreFullError
from orca.model.ids import NodeId


class Transport(Protocol):
    """Carries messages between replicas. Returns at once, and may lose what it was given."""

    def send(self, to: NodeId, message: Message) -> None:
        """Put `message` on its way to `to`; it may wait until the next `flush`, or the next turn of the loop."""
        ...

    def flush(self) -> None:
        """Let what was sent leave now: the sender goes on to wait for its disk."""
        ...


class Listener(Protocol):
    """What the driver tells the rest of the node; every call returns at once."""

    def applied(self, commands: list[AppliedCommand]) -> None:
        """The state has changed by `commands`."""
        ...

    def noted(self, message: str) -> None:
        """Something worth a line in the log."""
        ...

    def store_refused(self, reason: str) -> None:
        """The disk or the store took no write."""
        ...

    def restored(self) -> None:
        """The state was replaced by a snapshot of a peer."""
        ...

    def group_changed(self) -> None:
        """The leader or the members of the group are others now."""
        ...

    def outranked(self, epoch: int) -> None:
        """The group was started anew without this node; its log belongs to another past."""
        ...


class Alone:
    """The transport of a replica that has no peers."""

    def send(self, to: NodeId, message: Message) -> None:
        """Nobody is there."""

    def flush(self) -> None:
        """Nothing to do."""


class NewLife:
    """An order to go on with another log: what to write first, and why that failed. `end` is called then.

    `is_blank`: that log is empty, and what is applied is to come again.
    """

    def __init__(self, make_write: Callable[[], LogWrite], end: Callable[[], None], *, is_blank: bool) -> None:
        self.make_write = make_write
        self.end = end
        self.is_blank = is_blank
        self.refused: StoreFullError | None = None


Offload = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments and gives its result, without stopping the loop: a thread, or a test's own way."""
