"""What the IO half of gossip tells the machine."""

from typing import TypeAlias

import msgspec

from gossip.messages import Address, StreamMessage


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The time that `deadline()` named has come; an early or late one does no harm."""


class DatagramReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A datagram as it came off the socket."""

    source: Address
    data: bytes


class StreamReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody connected and said `message`; `ReplyStream` with the same `stream` answers."""

    stream: int
    source: Address
    message: StreamMessage


class StreamReplied(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of an exchange that the machine had opened."""

    exchange: int
    message: StreamMessage


class StreamFailed(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange that the machine had opened came to nothing."""

    exchange: int
    reason: str


class DropCounted(msgspec.Struct, frozen=True, kw_only=True):
    """Something from outside was thrown away before it became a message; `cause` is a short stable word."""

    cause: str


class StallNoticed(msgspec.Struct, frozen=True, kw_only=True):
    """The loop of this node did not turn for `stall_s` seconds: its silence and its timers mean little."""

    stall_s: float


IoEvent: TypeAlias = (
    Tick | DatagramReceived | StreamReceived | StreamReplied | StreamFailed | DropCounted | StallNoticed
)
