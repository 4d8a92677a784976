"""Records of a log file, as bytes. Pure.

A record is a head of sixteen bytes and a body:

    mark (2)  version (1)  kind (1)  length of the body (4)  checksum of the head (4)  checksum of the body (4)

Both checksums are CRC-32 and cover, besides what they are named after, the id of the file and the place of the record
in it: a record of another file, or of another place, is none. Behind the last record there are zeros.

A write that the power cut short left any of its sectors unwritten, so zeros. That is how it is told from
a record that was damaged later: `flaw_of_tail` forgives only what a cut can have done, and only at the end.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

MARK: Final = b"\xc5O"
VERSION: Final = 1
HEAD_BYTES: Final = 16
SECTOR_BYTES: Final = 512
"""The least that a disk writes whole."""
STEP_BYTES: Final = 128 * 1024
"""A log file has a size that is a multiple of this, unless a write that made it longer was cut short."""

_FRONT: Final = struct.Struct(">2sBBI")
_CHECKS: Final = struct.Struct(">II")
_ZEROS: Final = bytes(64 * 1024)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A whole record; `end` is the place after it."""

    version: int
    kind: int
    body: bytes
    end: int


def encode_record(file_id: bytes, place: int, kind: int, body: bytes) -> bytes:
    """The bytes of a record that stands at `place`."""
    front = _FRONT.pack(MARK, VERSION, kind, len(body))
    return front + _CHECKS.pack(*_checksums(file_id, place, front, body)) + body


def _checksums(file_id: bytes, place: int, front: bytes, body: bytes | memoryview) -> tuple[int, int]:
    seed = zlib.crc32(front, zlib.crc32(place.to_bytes(8, "big"), zlib.crc32(file_id)))
    return seed, zlib.crc32(body, seed)


def read_records(data: bytes, file_id: bytes, place: int = 0) -> Iterator[Record]:
    """The records from `place` on, up to the first that is not whole."""
    while (record := read_record(data, file_id, place)) is not None:
        yield record
        place = record.end


def read_record(data: bytes, file_id: bytes, place: int) -> Record | None:
    """The record at `place`; None when there is no whole one."""
    length = _length_at(data, file_id, place)
    if length is None:
        return None
    start = place + HEAD_BYTES
    body = data[start : start + length]
    front = data[place : place + _FRONT.size]
    _, check = _CHECKS.unpack_from(data, place + _FRONT.size)
    if len(body) < length or _checksums(file_id, place, front, body)[1] != check:
        return None
    return Record(version=front[2], kind=front[3], body=body, end=start + length)


def _length_at(data: bytes, file_id: bytes, place: int) -> int | None:
    """The length of the body of which a whole head stands at `place`."""
    if len(data) < place + HEAD_BYTES:
        return None
    front = data[place : place + _FRONT.size]
    mark, _, _, length = _FRONT.unpack(front)
    check, _ = _CHECKS.unpack_from(data, place + _FRONT.size)
    if mark != MARK or _checksums(file_id, place, front, b"")[0] != check:
        return None
    size: int = length
    return size


def flaw_of_tail(data: bytes, file_id: bytes, place: int) -> str:
    """Why what follows the last whole record, from `place` on, is not what a write that was cut short left.

    "" if it is.
    Data that has a sector of zeros of its own may be damaged at the very end of the log without being found.
    """
    size = len(data)
    if size % STEP_BYTES and place > size // STEP_BYTES * STEP_BYTES:
        # A write makes the file longer only when it needs more than there is, and begins before the old end.
        return f"the file is cut off after {size} bytes"
    if is_zero(data, place, size):
        return ""
    later = _next_record(data, file_id, place + 1)
    if later is not None:
        return f"the record at byte {place} is damaged, and byte {later} begins a whole one"
    length = _length_at(data, file_id, place)
    end = place + HEAD_BYTES + (length or 0)
    if end > size or _has_unwritten_sector(data, place, end):
        return ""
    return f"the record at byte {place} is damaged"


def _next_record(data: bytes, file_id: bytes, start: int) -> int | None:
    place = data.find(MARK, start)
    while place >= 0:
        if read_record(data, file_id, place) is not None:
            return place
        place = data.find(MARK, place + 1)
    return None


def _has_unwritten_sector(data: bytes, start: int, end: int) -> bool:
    """Whether some sector holds nothing of what lies between."""
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if is_zero(data, start, stop):
            return True
        start = stop
    return False


def is_zero(data: bytes, start: int, stop: int) -> bool:
    """Whether there is nothing but zeros between."""
    return all(
        data[place : min(stop, place + len(_ZEROS))] == _ZEROS[: min(stop, place + len(_ZEROS)) - place]
        for place in range(start, stop, len(_ZEROS))
    )
