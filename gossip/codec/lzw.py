"""LZW as Go's `compress/lzw` reads and writes it: least significant bit first, eight-bit literals.

Codes start at nine bits; 256 clears the table, 257 ends. The width grows when the next
free code needs it, up to twelve bits; a full table stays until it is cleared.
"""

from collections.abc import Generator
from typing import Final

from gossip.codec.dialect import CodecError

_CLEAR: Final = 256
_END: Final = 257
_FIRST_FREE: Final = 258
_FIRST_WIDTH: Final = 9
_CODES_MAX: Final = 1 << 12
TURN_BYTES: Final = 256
"""Of compressed bytes: some 0.3 ms, and at most 1 MiB expanded."""
_LITERALS: Final = [bytes((value,)) for value in range(256)] + [b"", b""]


def expand(data: bytes, bytes_max: int) -> bytes:
    """What `data` was before it was compressed.

    Raises CodecError for what the encoder cannot have written, and as soon as the result
    would be longer than `bytes_max`.
    """
    turns = expanding(data, bytes_max)
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return bytes(end.value)


def expanding(data: bytes, bytes_max: int) -> Generator[bool, bytes, bytes]:
    """`expand` in turns of `TURN_BYTES`, for those who have something else to do in between; yields True."""
    table = list(_LITERALS)
    out: list[bytes] = []
    size = 0
    width, limit = _FIRST_WIDTH, 1 << _FIRST_WIDTH
    bits = held = 0
    last = b""
    for start in range(0, len(data), TURN_BYTES):
        for byte in data[start : start + TURN_BYTES]:
            bits |= byte << held
            held += 8
            if held < width:
                continue
            code = bits & (limit - 1)
            bits >>= width
            held -= width
            if code == _CLEAR:
                del table[_FIRST_FREE:]
                width, limit, last = _FIRST_WIDTH, 1 << _FIRST_WIDTH, b""
                continue
            if code == _END:
                return b"".join(out)
            if code < len(table):
                word = table[code]
            elif code == len(table) and last and len(table) < _CODES_MAX:
                word = last + last[:1]
            else:
                raise CodecError("bad_lzw", f"code {code} of {len(table)}")
            if last and len(table) < _CODES_MAX:
                table.append(last + word[:1])
            last = word
            if len(table) >= limit and width < 12:
                width += 1
                limit <<= 1
            out.append(word)
            size += len(word)
            if size > bytes_max:
                raise CodecError("too_large", f"more than {bytes_max} bytes after decompression")
        yield True
    raise CodecError("truncated", "compressed bytes end without an end")


def compress(data: bytes) -> bytes:
    """`data` in codes, with a clear at the start and whenever the table is full; about 0.3 ms for each kilobyte.

    The writer keeps one code in hand, so the width grows with the code that is written next, and
    the table is cleared before its last code, as Go's own writer does.
    """
    out = bytearray()
    bits, held = _CLEAR, _FIRST_WIDTH
    width, limit, high = _FIRST_WIDTH, 1 << _FIRST_WIDTH, _END
    table: dict[int, int] = {}
    code = -1  # of the longest word that ends here and is in the table
    for value in data:
        if code < 0:
            code = value
            continue
        longer = code << 8 | value
        if longer in table:
            code = table[longer]
            continue
        bits |= code << held
        held += width
        high += 1
        if high == limit:
            width, limit = width + 1, limit << 1
        if high == _CODES_MAX - 1:
            bits |= _CLEAR << held
            held += width
            width, limit, high = _FIRST_WIDTH, 1 << _FIRST_WIDTH, _END
            table.clear()
        else:
            table[longer] = high
        code = value
        whole = held >> 3
        out += (bits & ((1 << (whole << 3)) - 1)).to_bytes(whole, "little")
        bits >>= whole << 3
        held &= 7
    if code >= 0:
        bits |= code << held
        held += width
        width += high + 1 == limit
    bits |= _END << held
    held += width
    return bytes(out) + bits.to_bytes((held + 7) >> 3, "little")
