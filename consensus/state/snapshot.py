"""Versioned, compressed, checksummed bytes of a whole `ClusterState`."""

import zlib
from typing import Final

import msgspec

from consensus.state.cluster import ClusterState
from orca.errors import StoreCorruptError

_MAGIC: Final = b"orca-state"
_SCHEMA: Final = 1
_SIZE_MAX: Final = 1 << 30
_decoder = msgspec.msgpack.Decoder(ClusterState)


def encode_snapshot(state: ClusterState) -> bytes:
    """`magic | schema (1 byte) | crc32 of the rest (4 bytes) | zlib of msgpack`."""
    body = zlib.compress(msgspec.msgpack.encode(state), level=1)
    return _MAGIC + bytes([_SCHEMA]) + zlib.crc32(body).to_bytes(4, "big") + body


def decode_snapshot(snapshot: bytes) -> ClusterState:
    """The state in `snapshot`.

    Raises StoreCorruptError for bytes that are none, are damaged, or come from a newer
    release; it never guesses.
    """
    head = len(_MAGIC)
    if snapshot[:head] != _MAGIC or len(snapshot) < head + 5:
        raise StoreCorruptError("this is no snapshot of an Orca cluster's state")
    if snapshot[head] != _SCHEMA:
        raise StoreCorruptError(
            f"the snapshot has schema {snapshot[head]}, this release knows {_SCHEMA}; run the release that wrote it"
        )
    body = snapshot[head + 5 :]
    if zlib.crc32(body) != int.from_bytes(snapshot[head + 1 : head + 5], "big"):
        raise StoreCorruptError("the snapshot's checksum does not match its content; restore the store from a backup")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, _SIZE_MAX)
        if not inflater.eof or inflater.unused_data:
            raise StoreCorruptError(f"the snapshot does not end where it should, or holds more than {_SIZE_MAX} bytes")
        return _decoder.decode(plain)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreCorruptError(f"the snapshot cannot be read: {error}") from error
