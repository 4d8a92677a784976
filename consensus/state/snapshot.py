"""Versioned, compressed, checksummed bytes of a whole `ClusterState`.

    "orca-state" | format (1) | SHA-256 of the rest (32) | schema (4) | zlib stream of pieces

The stream holds pieces, each with its length (4 bytes) in front: first the values that are no
tables, then each table in order, cut into pieces of at most `_PIECE_RECORDS` records, last
an empty piece. Pieces exist for the sake of other threads: msgspec encodes and decodes with
the interpreter locked, so one call for a large state would hold up every other task of the
node for as long; between pieces, and while zlib works, others run.

The SHA-256 says that these are the bytes that were written, also when two nodes sent parts
of one snapshot. The schema stands in clear, so that an older release knows what it looks
at before it reads any of it.
"""

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any, Final, get_origin

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.commands import base
from orca.errors import StoreCorruptError, StoreFullError

_MAGIC: Final = b"orca-state"
_FORMAT: Final = 2
_HASH_AT: Final = len(_MAGIC) + 1
_SCHEMA_AT: Final = _HASH_AT + 32
_BODY_AT: Final = _SCHEMA_AT + 4
_PIECE_RECORDS: Final = 256
_SIZE_MAX: Final = 1 << 30
_READ_BYTES: Final = 64 * 1024
_WAY_OUT: Final = "restore the store from a backup, or start the node with an empty data directory and join again"

_FIELDS: Final = {field.name: field.type for field in msgspec.structs.fields(ClusterState)}
_MAY_BE_ABSENT: Final = {field.name for field in msgspec.structs.fields(ClusterState) if field.default is None}
"""Came later: a snapshot that was written before has none of it."""
_TABLES: Final[dict[str, msgspec.msgpack.Decoder[dict[Any, Any]]]] = {
    name: msgspec.msgpack.Decoder(kind) for name, kind in _FIELDS.items() if get_origin(kind) is dict
}
_VALUES: Final = msgspec.defstruct(
    "_Values",
    [
        (name, kind, None) if name in _MAY_BE_ABSENT else (name, kind)
        for name, kind in _FIELDS.items()
        if name not in _TABLES
    ],
    forbid_unknown_fields=True,
    frozen=True,
    kw_only=True,
)
_values_decoder = msgspec.msgpack.Decoder(_VALUES)
_piece_decoder = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_encoder = msgspec.msgpack.Encoder()


def encode_snapshot(state: ClusterState) -> bytes:
    """The bytes of `state`; in a thread, of a frozen one.

    Raises StoreFullError for a state that is larger than any release reads back.
    """
    deflater = zlib.compressobj(level=1)
    parts: list[bytes] = []
    size = 0
    for piece in _pieces(state):
        size += 4 + len(piece)
        if size > _SIZE_MAX:
            raise StoreFullError(
                f"the cluster's state is larger than {_SIZE_MAX} bytes and cannot be kept; remove services"
            )
        parts.append(deflater.compress(len(piece).to_bytes(4, "big")))
        parts.append(deflater.compress(piece))
    parts.append(deflater.compress(bytes(4)))
    parts.append(deflater.flush())
    body = state.schema.to_bytes(4, "big") + b"".join(parts)
    return b"".join((_MAGIC, bytes([_FORMAT]), hashlib.sha256(body).digest(), body))


def _pieces(state: ClusterState) -> Iterator[bytes]:
    yield _encoder.encode(_VALUES(**{name: getattr(state, name) for name in _FIELDS if name not in _TABLES}))
    for name in _TABLES:
        items = list(getattr(state, name).items())
        for start in range(0, len(items), _PIECE_RECORDS):
            yield _encoder.encode((name, dict(items[start : start + _PIECE_RECORDS])))


def decode_snapshot(snapshot: bytes) -> ClusterState:
    """The state in `snapshot`.

    Raises StoreCorruptError for bytes that are none, are damaged, or come from a newer
    release; it never guesses.
    """
    if snapshot[: len(_MAGIC)] != _MAGIC:
        raise StoreCorruptError(f"this is no snapshot of an Orca cluster's state; {_WAY_OUT}")
    if len(snapshot) < _BODY_AT:
        raise StoreCorruptError(f"the snapshot ends after {len(snapshot)} bytes, inside its head; {_WAY_OUT}")
    written = snapshot[len(_MAGIC)]
    if written != _FORMAT:
        mend = "update this node" if written > _FORMAT else "only releases before the first one wrote that"
        raise StoreCorruptError(f"the snapshot has format {written}, this release reads {_FORMAT}; {mend}")
    if hashlib.sha256(memoryview(snapshot)[_SCHEMA_AT:]).digest() != snapshot[_HASH_AT:_SCHEMA_AT]:
        raise StoreCorruptError(f"the snapshot's checksum does not match its content; {_WAY_OUT}")
    schema = int.from_bytes(snapshot[_SCHEMA_AT:_BODY_AT], "big")
    if schema > base.SCHEMA:
        raise StoreCorruptError(
            f"the snapshot has schema {schema}, this release knows {base.SCHEMA}; update this node, its data is whole"
        )
    try:
        state = _read_state(_read_pieces(memoryview(snapshot)[_BODY_AT:]))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorruptError(f"the snapshot cannot be read: {error}; {_WAY_OUT}") from error
    if state.schema != schema:
        raise StoreCorruptError(f"the snapshot says schema {schema} outside and {state.schema} inside; {_WAY_OUT}")
    return state


def _read_state(pieces: Iterator[bytes]) -> ClusterState:
    values = _values_decoder.decode(next(pieces, b""))
    tables: dict[str, dict[Any, Any]] = {name: {} for name in _TABLES}
    for piece in pieces:
        name, records = _piece_decoder.decode(piece)
        if name not in _TABLES:
            raise StoreCorruptError(f"the snapshot has a table {name!r:.80} that its schema does not know; {_WAY_OUT}")
        tables[name].update(_TABLES[name].decode(records))
    fields: dict[str, Any] = {**msgspec.structs.asdict(values), **tables}
    return ClusterState(**fields)


def _read_pieces(body: memoryview) -> Iterator[bytes]:
    """The pieces in `body`, one after the other: it is never unpacked as a whole."""
    inflater = zlib.decompressobj()
    buffer = bytearray()
    place, total, is_whole = 0, 0, False
    while place < len(body) or inflater.unconsumed_tail:
        packed = inflater.unconsumed_tail or body[place : place + _READ_BYTES]
        place += 0 if inflater.unconsumed_tail else len(packed)
        plain = inflater.decompress(packed, _SIZE_MAX)
        total += len(plain)
        buffer += plain
        while len(buffer) >= 4 and not is_whole:
            length = int.from_bytes(buffer[:4], "big")
            if length > _SIZE_MAX or total > _SIZE_MAX + 4:
                raise StoreCorruptError(f"the snapshot holds more than {_SIZE_MAX} bytes; {_WAY_OUT}")
            if len(buffer) < 4 + length:
                break
            is_whole = length == 0
            if not is_whole:
                yield bytes(memoryview(buffer)[4 : 4 + length])
            del buffer[: 4 + length]
    if not is_whole or buffer or not inflater.eof or inflater.unused_data:
        raise StoreCorruptError(f"the snapshot does not end where it should; {_WAY_OUT}")
