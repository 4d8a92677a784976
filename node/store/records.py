"""Records that carry a checksum of their own: CRC-32, 4 bytes big-endian, then the bytes."""

import zlib

from orca.errors import StoreCorruptError


def seal(payload: bytes, salt: bytes = b"") -> bytes:
    """`payload` with its checksum; `salt` is checked too but not kept, for example the key."""
    return zlib.crc32(payload, zlib.crc32(salt)).to_bytes(4, "big") + payload


def unseal(record: bytes, what: str, salt: bytes = b"") -> bytes:
    """The payload that `record` was made of; raises `StoreCorruptError` naming `what`."""
    payload = record[4:]
    if len(record) < 4 or zlib.crc32(payload, zlib.crc32(salt)) != int.from_bytes(record[:4], "big"):
        raise StoreCorruptError(
            f"{what} is damaged: its checksum does not fit. The node refuses to guess; restore the data "
            "directory from a backup, or move it aside and let the node join as a new one"
        )
    return payload
