"""What a session wants done, in list order."""

from typing import TypeAlias

import msgspec

from node.mesh.session.framing import Priority, StreamId


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """Put `data` on the wire."""

    data: bytes


class Established(msgspec.Struct, frozen=True, kw_only=True):
    """Both have greeted; streams can be opened. `version` is what both speak."""

    version: int
    boot: bytes


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `Open`."""

    stream: StreamId


class OpenRefused(msgspec.Struct, frozen=True, kw_only=True):
    """The other answer to `Open`: a code of `orca.errors` and a sentence."""

    code: str
    message: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The peer began a stream."""

    stream: StreamId
    purpose: str
    subject: bytes
    priority: Priority


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a stream; answered with `Consumed` when somebody took them."""

    stream: StreamId
    data: bytes


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The peer sends nothing more on `stream`."""

    stream: StreamId


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """`stream` is over, what was not read of it is void, and nothing can be sent on it."""

    stream: StreamId
    code: str
    message: str


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """The peer reads no more of `stream`; what came of it up to its end is good."""

    stream: StreamId
    code: str
    message: str


class RoomMade(msgspec.Struct, frozen=True, kw_only=True):
    """Little enough waits on `stream` for more to be sent."""

    stream: StreamId


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """A ping was answered."""

    seconds: float


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """No more streams can be opened here: ours or the peer's wish."""

    message: str


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """The session is over. Last of all effects but for `Write`, which may carry the reason to the peer.

    `is_ours`: this side ended it. `is_clean`: nothing was in flight.
    """

    code: str
    message: str
    is_ours: bool
    is_clean: bool = False


Effect: TypeAlias = (
    Write
    | Established
    | Opened
    | OpenRefused
    | Accepted
    | Arrived
    | Ended
    | Broken
    | Stopped
    | RoomMade
    | RoundTrip
    | Draining
    | Closed
)
