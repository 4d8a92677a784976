"""What the SWIM machine wants done."""

import enum
from typing import TypeAlias

import msgspec

from gossip.effects import Noted
from gossip.messages import Address, StreamMessage
from gossip.swim.members import MemberView


class SendPacket(msgspec.Struct, frozen=True, kw_only=True):
    """Send `frames` in one datagram; `has_crc` when the peer is known to read checksums."""

    to: Address
    frames: tuple[bytes, ...]
    has_crc: bool = False


class OpenStream(msgspec.Struct, frozen=True, kw_only=True):
    """Say `message` to `to` over a stream; with `wants_reply` the answer or the failure comes back."""

    exchange: int
    to: Address
    message: StreamMessage
    timeout_s: float
    wants_reply: bool = True


class ReplyStream(msgspec.Struct, frozen=True, kw_only=True):
    """Answer a stream and end it; None just ends it."""

    stream: int
    message: StreamMessage | None = None


class ChangeKind(enum.Enum):
    """What happened to a member, as this node sees it."""

    JOINED = "joined"
    UPDATED = "updated"
    SUSPECTED = "suspected"
    REFUTED = "refuted"
    FAILED = "failed"
    LEFT = "left"
    FORGOTTEN = "forgotten"


class MemberChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Belief about `member` changed; it is shown as it is after the change."""

    kind: ChangeKind
    member: MemberView


class JoinEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Of the addresses of join `handle`, so many answered; `failures` says why the others did not."""

    handle: int
    joined: int
    failures: tuple[tuple[Address, str], ...] = ()


class LeaveEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The farewell was said often enough, or its time is over."""


SwimEffect: TypeAlias = SendPacket | OpenStream | ReplyStream | MemberChanged | JoinEnded | LeaveEnded | Noted
