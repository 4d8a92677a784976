"""What is said in words in the frames of a session.

Fields that a reader does not know it leaves out, and new ones have defaults, so that two
neighbouring releases understand each other.
"""

from typing import Annotated, Final, TypeVar

import msgspec

from orca.errors import PeerProtocolError
from orca.wire import PROTOCOL_VERSION, PROTOCOL_VERSION_LEAST

SUBJECT_BYTES_MAX: Final = 4096
MESSAGE_CHARACTERS_MAX: Final = 1000
"""Of a sentence in RESET and GOAWAY; a longer one is cut."""
BOOT_BYTES: Final = 8

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of either side.

    `least` to `version` is what it speaks. `boot` tells one life of a process from the next.
    The rest is what the peer may do here: bytes under way on a stream and on all of them,
    streams at a time, new ones a second.
    """

    version: _Count = PROTOCOL_VERSION
    least: _Count = PROTOCOL_VERSION_LEAST
    boot: Annotated[bytes, msgspec.Meta(max_length=BOOT_BYTES)] = b""
    stream_bytes: _Count = 0
    connection_bytes: _Count = 0
    streams_max: _Count = 0
    opens_per_s: _Count = 0


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of OPEN."""

    purpose: Annotated[str, msgspec.Meta(max_length=64)]
    subject: Annotated[bytes, msgspec.Meta(max_length=SUBJECT_BYTES_MAX)] = b""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of RESET and GOAWAY: a code of `orca.errors`, and why."""

    code: Annotated[str, msgspec.Meta(max_length=64)]
    message: Annotated[str, msgspec.Meta(max_length=MESSAGE_CHARACTERS_MAX)]


_encoder = msgspec.msgpack.Encoder()
_T = TypeVar("_T", Hello, Opening, Reason)


def encode_words(words: Hello | Opening | Reason) -> bytes:
    """Their payload in a frame."""
    return _encoder.encode(words)


def decode_words(payload: bytes, kind: type[_T]) -> _T:
    """What `payload` says; raises PeerProtocolError for anything else."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerProtocolError(f"a peer sends a {kind.__name__} that cannot be read: {error}") from error


def reason(code: str, message: str) -> bytes:
    """Payload of RESET and GOAWAY; a long message is cut."""
    return encode_words(Reason(code=code, message=message[:MESSAGE_CHARACTERS_MAX]))


def agree(ours: Hello, theirs: Hello) -> int:
    """The version that both speak; raises PeerProtocolError when there is none."""
    version = min(ours.version, theirs.version)
    if version < max(ours.least, theirs.least):
        raise PeerProtocolError(
            f"this node speaks versions {ours.least} to {ours.version} of the mesh protocol, its peer {theirs.least} "
            f"to {theirs.version}; update the older of them"
        )
    return version
