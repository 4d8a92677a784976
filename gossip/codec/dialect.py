"""The msgpack that Go's encoder writes by default, and typed access to the maps that it reads."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, TypeAlias

import msgpack

Fields: TypeAlias = Mapping[bytes, Any]

NAME_BYTES_MAX: Final = 512
"""Above any name that a sensible cluster has, and little enough to be kept a thousand times."""


class CodecError(ValueError):
    """Bytes that are no message; `cause` is a short stable word for counters."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(detail or cause)
        self.cause = cause


def pack(fields: Mapping[str, Any]) -> bytes:
    """A struct as Go writes it: a map whose keys are sorted, text and bytes in the old raw family."""
    packed: bytes = msgpack.packb(dict(sorted(fields.items())), use_bin_type=False)
    return packed


def unpack(data: bytes | memoryview) -> Fields:
    """The map at the start of `data`; what follows it is ignored, as Go does."""
    try:
        value = msgpack.unpackb(data, raw=True, strict_map_key=False, use_list=False)
    except msgpack.ExtraData as error:
        value = error.unpacked
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise CodecError("bad_msgpack", str(error)) from error
    return as_fields(value)


def as_fields(value: object) -> Fields:
    """`value` as the map that a struct is."""
    if not isinstance(value, dict):
        raise CodecError("no_struct", f"a {type(value).__name__} stands where a struct should")
    return value


def uint(fields: Fields, key: bytes, bits: int = 32) -> int:
    """An unsigned number of at most `bits`; 0 when it is missing."""
    value = fields.get(key, 0)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise CodecError("bad_number", f"{key.decode()} is {value!r:.40}")
    return value


def flag(fields: Fields, key: bytes) -> bool:
    """A truth value; False when it is missing."""
    value = fields.get(key)
    if value is not None and type(value) is not bool:
        raise CodecError("bad_flag", f"{key.decode()} is {value!r:.40}")
    return bool(value)


def blob(fields: Fields, key: bytes) -> bytes:
    """Bytes; empty when they are missing or nil."""
    value = fields.get(key)
    if value is None:
        return b""
    if type(value) is not bytes:
        raise CodecError("bad_bytes", f"{key.decode()} is {value!r:.40}")
    return value


def text(fields: Fields, key: bytes, bytes_max: int = NAME_BYTES_MAX) -> str:
    """Text; bytes that are no UTF-8 survive a round trip as they came."""
    value = blob(fields, key)
    if len(value) > bytes_max:
        raise CodecError("too_long", f"{key.decode()} has {len(value)} bytes")
    return value.decode("utf-8", "surrogateescape")


def to_raw(words: str) -> bytes:
    """The bytes of a text that may hold what was no UTF-8."""
    return words.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def host_bytes(host: str) -> bytes:
    """4 or 16 bytes of an address in text. Raises ValueError for what is none."""
    return ip_address(host).packed


@lru_cache(maxsize=4096)
def host_text(raw: bytes) -> str:
    """The text of 4 or 16 bytes; an IPv4 address that is mapped into IPv6 comes out as IPv4."""
    if len(raw) not in {4, 16}:
        raise CodecError("bad_address", f"an address of {len(raw)} bytes")
    address = ip_address(raw)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
