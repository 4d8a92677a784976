"""What happens to the SWIM machine."""

from typing import TypeAlias

import msgspec

from gossip.events import StallNoticed, StreamFailed, StreamReceived, StreamReplied, Tick
from gossip.messages import Address, PacketMessage


class PacketReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A datagram from `source`, decoded."""

    source: Address
    messages: tuple[PacketMessage, ...]


class JoinRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Exchange states with each of `addresses`; `JoinEnded` with the same `handle` tells how that went."""

    handle: int
    addresses: tuple[Address, ...]


class LeaveRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Say farewell; `LeaveEnded` tells when it has been said often enough."""


class MetaChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The delegate's `meta` is another: tell everybody."""


class UserSent(msgspec.Struct, frozen=True, kw_only=True):
    """Send `payload` straight to `to`, once; over a stream when it fits no packet."""

    to: Address
    payload: bytes


SwimEvent: TypeAlias = (
    Tick
    | PacketReceived
    | StreamReceived
    | StreamReplied
    | StreamFailed
    | JoinRequested
    | LeaveRequested
    | MetaChanged
    | UserSent
    | StallNoticed
)
