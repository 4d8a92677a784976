"""What the IO half of gossip has to do; everything else that the machine gives is news for the node."""

import enum
from typing import TypeAlias

import msgspec

from gossip.messages import Address


class SendDatagram(msgspec.Struct, frozen=True, kw_only=True):
    """Put `data` on its way to `to`; it may get lost."""

    to: Address
    data: bytes


class OpenStream(msgspec.Struct, frozen=True, kw_only=True):
    """Connect to `to`, send `data`, and with `wants_reply` report the answer or the failure of exchange `exchange`.

    The whole exchange has `timeout_s` seconds.
    """

    exchange: int
    to: Address
    data: bytes
    timeout_s: float
    wants_reply: bool = True


class ReplyStream(msgspec.Struct, frozen=True, kw_only=True):
    """Answer the stream `stream` with `data` and end it; without data, just end it."""

    stream: int
    data: bytes = b""


class NoteLevel(enum.Enum):
    """How loud a note is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth a line in the log of the node."""

    message: str
    level: NoteLevel = NoteLevel.INFO


IoEffect: TypeAlias = SendDatagram | OpenStream | ReplyStream
