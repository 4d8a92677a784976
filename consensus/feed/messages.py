"""What a source and its reader say to each other, and its bytes."""

from typing import TypeAlias

import msgspec

from consensus.storage import Entry, SnapshotMeta
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, NodeId, Term


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How much of which snapshot a reader holds: `offset` bytes of `size` with that checksum (CRC-32)."""

    meta: SnapshotMeta
    size: int
    checksum: int
    offset: int


class Follow(msgspec.Struct, frozen=True, kw_only=True, tag="follow"):
    """Give me what comes after entry `after` of `term`; of a snapshot I have so much already."""

    epoch: int
    after: LogIndex
    term: Term
    partial: Place | None = None


class SnapshotBegun(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """A snapshot comes in pieces, from `place.offset` on; what was read of another is void."""

    epoch: int
    place: Place


class SnapshotPart(msgspec.Struct, frozen=True, kw_only=True, tag="part"):
    """Bytes of the snapshot that was begun."""

    offset: int
    data: bytes


class Committed(msgspec.Struct, frozen=True, kw_only=True, tag="committed"):
    """Committed entries that follow the last ones without a gap."""

    epoch: int
    entries: tuple[Entry, ...]


class Current(msgspec.Struct, frozen=True, kw_only=True, tag="current"):
    """Nothing is newer than `commit_index`, as far as this source knew `age_ms` ago."""

    epoch: int
    commit_index: LogIndex
    age_ms: int
    term: Term
    leader: NodeId | None = None


FeedMessage: TypeAlias = Follow | SnapshotBegun | SnapshotPart | Committed | Current

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[FeedMessage] = msgspec.msgpack.Decoder(FeedMessage)


def encode_feed(message: FeedMessage) -> bytes:
    """Its payload in a frame."""
    return _encoder.encode(message)


def decode_feed(payload: bytes) -> FeedMessage:
    """What `payload` says; raises PeerProtocolError for anything else."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerProtocolError(f"a peer that streams intent said something unknown: {error}") from error
