"""What nodes tell each other about facts, and its bytes.

A frame is the byte 0xF0, which no Serf message begins with, and msgpack: schema, sender,
messages. Messages are tagged arrays: new fields are appended with a default, older nodes
skip them. A frame of another schema is dropped and counted.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from gossip.facts.config import KEY_BYTES_MAX, VALUE_BYTES_MAX, VERSION_MAX

FRAME_TYPE: Final = 0xF0
SCHEMA: Final = 1
BUCKETS_MAX: Final = 64
BUCKET_BYTES: Final = 4
MESSAGES_MAX: Final = 4096


class FrameError(ValueError):
    """Bytes that are no frame of ours; `cause` is a short stable word for counters."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One fact as it travels; value None: it was removed. `ttl_s` None: held as long as its owner's other facts."""

    key: str
    version: int
    value: bytes | None
    ttl_s: float | None = None


class Reach(msgspec.Struct, frozen=True, array_like=True):
    """How far somebody knows a writer: everything up to `version` of that incarnation.

    `gc_version`: removals up to it may have been forgotten.
    """

    writer: str
    incarnation: int
    version: int
    gc_version: int


class Summary(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A hash of all reaches, in buckets of 4 bytes by writer; a power of two of them."""

    buckets: bytes


class Digest(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Reaches of the sender. With `is_answer` it asks for what is missing there and offers nothing."""

    reaches: tuple[Reach, ...]
    is_answer: bool = False


class Delta(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """All facts of a writer with versions above `from_version` and up to `to_version`, in order.

    `is_push`: news, to be passed on; else it was asked for.
    """

    writer: str
    incarnation: int
    from_version: int
    to_version: int
    gc_version: int
    items: tuple[Item, ...]
    is_push: bool = False


FactMessage: TypeAlias = Summary | Digest | Delta


class Frame(msgspec.Struct, frozen=True):
    """A decoded frame."""

    sender: str
    messages: tuple[FactMessage, ...]


_ENCODER: Final = msgspec.msgpack.Encoder()
_OUTER: Final = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_MESSAGES: Final = msgspec.msgpack.Decoder(tuple[FactMessage, ...])


def encode_message(message: FactMessage | Item) -> bytes:
    """One message, or one item to measure it, ready for `encode_frame`."""
    return _ENCODER.encode(message)


def encode_frame(sender: str, messages: Sequence[bytes]) -> bytes:
    """A frame of messages that `encode_message` made."""
    raw = [msgspec.Raw(message) for message in messages]
    return bytes((FRAME_TYPE,)) + _ENCODER.encode((SCHEMA, sender, raw))


def frame_overhead_bytes(sender: str) -> int:
    """What a frame costs beside its messages."""
    return len(encode_frame(sender, ())) + 4  # the array of messages may need a longer header


def frame_sender(payload: bytes) -> str:
    """Who a frame says that it comes from; empty when it cannot be read."""
    try:
        return _OUTER.decode(memoryview(payload)[1:])[1]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def decode_frame(payload: bytes) -> Frame:
    """The frame, checked in itself: sizes, order of versions, ranges. FrameError for anything else."""
    if not payload or payload[0] != FRAME_TYPE:
        raise FrameError("not_a_frame", "the payload does not begin with 0xF0")
    try:
        schema, sender, raw = _OUTER.decode(memoryview(payload)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError("bad_msgpack", f"no frame: {error}") from error
    if schema != SCHEMA:
        raise FrameError("schema", f"schema {schema}; this node speaks {SCHEMA}")
    try:
        messages = _MESSAGES.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError("bad_message", f"a message of {sender!r} cannot be read: {error}") from error
    if len(messages) > MESSAGES_MAX:
        raise FrameError("too_many", f"{len(messages)} messages in one frame, at most {MESSAGES_MAX}")
    for message in messages:
        match message:
            case Summary():
                check_summary(message)
            case Digest():
                for reach in message.reaches:
                    _check_numbers((reach.incarnation, reach.version, reach.gc_version))
            case Delta():
                _check_delta(message)
    return Frame(sender, messages)


def check_summary(summary: Summary) -> None:
    """FrameError unless it is a power of two of whole buckets."""
    count, rest = divmod(len(summary.buckets), BUCKET_BYTES)
    if rest or not 1 <= count <= BUCKETS_MAX or count & (count - 1):
        raise FrameError("bad_summary", f"{len(summary.buckets)} bytes are no power of two of buckets")


def _check_delta(delta: Delta) -> None:
    _check_numbers((delta.incarnation, delta.from_version, delta.to_version, delta.gc_version))
    last = delta.from_version
    for item in delta.items:
        if not last < item.version <= delta.to_version:
            raise FrameError("bad_order", f"version {item.version} after {last} in a delta to {delta.to_version}")
        last = item.version
        if not 0 < len(item.key.encode()) <= KEY_BYTES_MAX:
            raise FrameError("bad_key", f"a key of {len(item.key.encode())} bytes; 1 to {KEY_BYTES_MAX} are allowed")
        if item.value is not None and len(item.value) > VALUE_BYTES_MAX:
            raise FrameError("bad_value", f"a value of {len(item.value)} bytes, at most {VALUE_BYTES_MAX} are allowed")
        if item.ttl_s is not None and not 0 <= item.ttl_s < float("inf"):
            raise FrameError("bad_ttl", f"a time to live of {item.ttl_s} s")
    if delta.incarnation == 0 or delta.to_version <= delta.from_version:
        raise FrameError("bad_order", f"a delta from {delta.from_version} to {delta.to_version} says nothing")


def _check_numbers(numbers: Iterable[int]) -> None:
    for number in numbers:
        if not 0 <= number <= VERSION_MAX:
            raise FrameError("bad_number", f"{number} is outside 0 to 2**62")
