"""What the facts machine is told."""

from typing import TypeAlias

import msgspec

from gossip.events import Tick
from gossip.messages import Address


class FactWritten(msgspec.Struct, frozen=True, kw_only=True):
    """From now on this node says `value` about `key`.

    `ttl_s`: so long after this node is gone nobody shows it any more; None: as long as
    facts of departed nodes are held at all.
    """

    key: str
    value: bytes
    ttl_s: float | None = None


class FactRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """From now on this node says nothing about `key`."""

    key: str


class FrameReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A user payload that begins with 0xF0, from a packet or from a stream."""

    payload: bytes


class PeerAppeared(msgspec.Struct, frozen=True, kw_only=True):
    """A member that speaks facts (it carries the tag `orca`) is alive, at `address`."""

    node: str
    address: Address


class PeerDeparted(msgspec.Struct, frozen=True, kw_only=True):
    """It failed, left, or lost the tag."""

    node: str


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """The kill switch: nothing is sent or taken in, and what is known stays. Our own facts can still be written."""


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange goes on."""


FactsEvent: TypeAlias = (
    Tick | FactWritten | FactRemoved | FrameReceived | PeerAppeared | PeerDeparted | Paused | Resumed
)
