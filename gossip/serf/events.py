"""What the node asks of the Serf layer; what peers say comes through the delegate calls."""

from typing import TypeAlias

import msgspec

from gossip.events import Tick
from gossip.messages import Filter
from gossip.serf.effects import KeyOperation, QueryKey


class EventRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Tell everybody."""

    name: str
    payload: bytes = b""
    is_coalescable: bool = False


class QueryRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Ask everybody whom the filters let through. `handle`: the caller's number, not below 0, for the answers.

    `timeout_s` 0 is the default, which grows with the group.
    """

    handle: int
    name: str
    payload: bytes = b""
    filters: tuple[Filter, ...] = ()
    wants_ack: bool = False
    relay_factor: int = 0
    timeout_s: float = 0.0


class QueryClosed(msgspec.Struct, frozen=True, kw_only=True):
    """Answers to our query `handle` are no longer wanted."""

    handle: int


class QueryAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """What this node says to a query that it received."""

    key: QueryKey
    payload: bytes


class TagsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The tags of this node are these now."""

    tags: dict[str, str]


class JoinStarted(msgspec.Struct, frozen=True, kw_only=True):
    """SWIM is about to join; with `ignores_old`, events from before that are not wanted."""

    ignores_old: bool = False


class JoinEnded(msgspec.Struct, frozen=True, kw_only=True):
    """SWIM's join is over; `joined` of the addresses answered."""

    joined: int


class LeaveRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Leave the cluster gracefully; `Left` says when the node may close."""


class SwimLeft(msgspec.Struct, frozen=True, kw_only=True):
    """SWIM has said farewell, or could not in time."""


class ForceLeaveRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A failed member will not come back; `is_prune` forgets it at once."""

    node: str
    is_prune: bool = False


class KeyCommandRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Do one thing to the keyrings of all members; `key` is raw and empty for a listing."""

    handle: int
    operation: KeyOperation
    key: bytes = b""
    relay_factor: int = 0


class RotationRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Replace all keys of the cluster by `key`, step by step.

    Members that have failed would not understand anybody when they come back, so there must
    be none, unless `allows_absent`.
    """

    key: bytes
    allows_absent: bool = False


Passage: TypeAlias = JoinStarted | JoinEnded | LeaveRequested | SwimLeft
"""Coming and going of this node."""
Request: TypeAlias = (
    EventRequested
    | QueryRequested
    | QueryClosed
    | QueryAnswered
    | TagsChanged
    | ForceLeaveRequested
    | KeyCommandRequested
    | RotationRequested
)
"""What the node wants done while it is a member."""
SerfEvent: TypeAlias = Tick | Passage | Request
