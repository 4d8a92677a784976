"""Where a body ends: strict readers over a growing buffer. Pure."""

import re
from typing import Final, Protocol

from node.proxy.faults import BadBodyError, BadHeadError
from node.proxy.heads import Framing, check_trailer_line

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
"""RFC 9112 §7.1 without the optional white space that its §7.1.1 calls bad."""
_CHUNK_LINE_MAX: Final = 256
_TRAILER_BYTES_MAX: Final = 8192
LAST_CHUNK: Final = b"0\r\n\r\n"


class BodyReader(Protocol):
    """Takes a body out of a buffer, piece by piece."""

    is_over: bool

    def take(self, buffer: bytearray) -> bytes:
        """What of the body is in `buffer`, taken out of it; empty when more must come.

        Raises BadBodyError when the bytes break the framing.
        """
        ...

    def on_end_of_stream(self) -> None:
        """The sender closed. Raises BadBodyError unless that is the body's proper end."""
        ...


class LengthReader:
    """A body of `length` bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_over = length == 0

    def take(self, buffer: bytearray) -> bytes:
        """The rest of the body, or as much of it as is there."""
        if len(buffer) <= self._left:
            piece = bytes(buffer)
            buffer.clear()
        else:
            piece = bytes(buffer[: self._left])
            del buffer[: self._left]
        self._left -= len(piece)
        self.is_over = self._left == 0
        return piece

    def on_end_of_stream(self) -> None:
        """Always too early: a complete body is not waited for."""
        raise BadBodyError(f"the body ended {self._left} bytes early")


class UntilCloseReader:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.is_over = False

    def take(self, buffer: bytearray) -> bytes:
        """Everything that is there."""
        piece = bytes(buffer)
        buffer.clear()
        return piece

    def on_end_of_stream(self) -> None:
        """The proper end."""
        self.is_over = True


class ChunkedReader:
    """A chunked body (RFC 9112 §7.1): sizes in hex, CRLF everywhere, trailers checked and dropped."""

    def __init__(self) -> None:
        self._left = 0
        self._is_at_crlf = False
        self._trailer_bytes = -1
        self.is_over = False

    def take(self, buffer: bytearray) -> bytes:
        """The data of all chunks in `buffer`, joined."""
        pieces: list[bytes] = []
        while not self.is_over and self._advance(buffer, pieces):
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def on_end_of_stream(self) -> None:
        """Always too early: only the last chunk ends it."""
        raise BadBodyError("the body ended before its last chunk")

    def _advance(self, buffer: bytearray, pieces: list[bytes]) -> bool:
        """One step of the grammar; False when more must come."""
        if self._trailer_bytes >= 0:
            return self._take_trailer(buffer)
        if self._left:
            piece = bytes(buffer[: self._left])
            del buffer[: len(piece)]
            self._left -= len(piece)
            self._is_at_crlf = self._left == 0
            if piece:
                pieces.append(piece)
            return bool(piece)
        if self._is_at_crlf:
            if buffer[:2] == b"\r\n":
                del buffer[:2]
                self._is_at_crlf = False
                return True
            if buffer and buffer != b"\r":
                raise BadBodyError("a chunk is longer than its size says")
            return False
        return self._take_size(buffer)

    def _take_size(self, buffer: bytearray) -> bool:
        line = _take_line(buffer, _CHUNK_LINE_MAX)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadBodyError("a chunk size is not hexadecimal, or its extension is malformed")
        self._left = int(match[1], 16)
        if self._left == 0:
            self._trailer_bytes = 0
        return True

    def _take_trailer(self, buffer: bytearray) -> bool:
        line = _take_line(buffer, _TRAILER_BYTES_MAX)
        if line is None:
            return False
        if not line:
            self.is_over = True
            return False
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _TRAILER_BYTES_MAX:
            raise BadBodyError("the trailers are too long")
        try:
            check_trailer_line(line)
        except BadHeadError as error:
            raise BadBodyError(error.reason) from error
        return True


def _take_line(buffer: bytearray, bytes_max: int) -> bytes | None:
    """The line at the start of `buffer` without its CRLF; None while it is not complete."""
    end = buffer.find(b"\n", 0, bytes_max + 2)
    if end < 0:
        if len(buffer) > bytes_max:
            raise BadBodyError("a chunk line is too long")
        return None
    line = bytes(buffer[: end + 1])
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise BadBodyError("a line of a chunked body does not end with CRLF")
    del buffer[: end + 1]
    return line[:-2]


def make_reader(framing: Framing, length: int) -> BodyReader:
    """The reader for a body framed like that."""
    match framing:
        case Framing.CHUNKED:
            return ChunkedReader()
        case Framing.UNTIL_CLOSE:
            return UntilCloseReader()
        case Framing.NONE | Framing.LENGTH:
            return LengthReader(length)


def encode_chunk(piece: bytes) -> bytes:
    """`piece`, which must not be empty, as one chunk."""
    assert piece, "an empty chunk would end the body"
    return b"%x\r\n%b\r\n" % (len(piece), piece)
