"""Lines and server-sent events out of pieces of bytes; no IO."""

from collections.abc import Iterator
from typing import Final

import msgspec

from orca.errors import PeerProtocolError

LINE_BYTES_MAX: Final = 64 * 2**20


class LineSplitter:
    """Complete lines out of pieces; keeps an unfinished one, up to `LINE_BYTES_MAX`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that `piece` ends, without their ends."""
        *ended, rest = piece.split(b"\n")
        for line in ended:
            self._pieces.append(line)
            whole = b"".join(self._pieces)
            self._pieces, self._size = [], 0
            yield whole.removesuffix(b"\r")
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if self._size > LINE_BYTES_MAX:
            raise PeerProtocolError(f"the node sent a line of more than {LINE_BYTES_MAX} bytes")

    @property
    def rest(self) -> bytes:
        """What came after the last line end."""
        return b"".join(self._pieces)


class SseMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One server-sent event (HTML Standard §9.2)."""

    event: str
    data: bytes
    id: str = ""


class SseParser:
    """Server-sent events out of pieces; comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._event = ""
        self._id = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[SseMessage]:
        """The events that `piece` completes."""
        for line in self._lines.feed(piece):
            if line:
                self._take(line)
                continue
            if self._data:
                yield SseMessage(event=self._event or "message", data=b"\n".join(self._data), id=self._id)
            self._event, self._data = "", []

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"event":
                self._event = value.decode(errors="replace")
            case b"data":
                self._data.append(value)
            case b"id":
                self._id = value.decode(errors="replace")
            case _:
                pass
