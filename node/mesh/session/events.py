"""What a session is told."""

from typing import TypeAlias

import msgspec

from node.mesh.session.framing import Priority, StreamId


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes came from the peer. `data` is read before `step` returns and may be used anew after it."""

    data: bytes | bytearray | memoryview


class Writable(msgspec.Struct, frozen=True, kw_only=True):
    """The wire takes about `bytes_max` bytes now."""

    bytes_max: int


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a stream."""

    purpose: str
    subject: bytes = b""
    priority: Priority = Priority.INTERACTIVE


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Put `data` behind what waits on `stream`."""

    stream: StreamId
    data: bytes


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing more is sent on `stream` after what waits."""

    stream: StreamId


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The local user is done with `stream`: what waits is still sent, what still comes is dropped."""

    stream: StreamId


class Abort(msgspec.Struct, frozen=True, kw_only=True):
    """End `stream` at once; the peer is told why."""

    stream: StreamId
    code: str
    message: str


class Consumed(msgspec.Struct, frozen=True, kw_only=True):
    """The local user took `count` bytes of `stream`: the peer may send so many more."""

    stream: StreamId
    count: int


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Ping(msgspec.Struct, frozen=True):
    """Find out whether the peer is there still."""


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """Begin no more streams; close when those that there are have ended."""

    message: str


class Leave(msgspec.Struct, frozen=True, kw_only=True):
    """Close now and say why: a code of `orca.errors` and a sentence."""

    code: str
    message: str


Event: TypeAlias = Received | Writable | Open | Send | End | Release | Abort | Consumed | Tick | Ping | Drain | Leave
