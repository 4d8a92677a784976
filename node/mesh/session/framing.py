"""Frames as bytes: a head of ten, then so many bytes as it says.

    kind 1 | flags 1 | stream 4 | length 4 | payload

Numbers are big-endian. Kinds from 128 on are optional: who does not know one leaves it out.
Whoever meets another unknown kind closes, because it cannot tell what it would miss.
"""

import enum
import struct
from collections.abc import Iterator
from typing import Final, NewType

from orca.errors import PeerProtocolError

StreamId = NewType("StreamId", int)
"""Odd for streams of the side that dialled, even for the other's, growing; 0 is the session itself."""

SESSION: Final = StreamId(0)
HEAD: Final = struct.Struct(">BBII")
OPTIONAL: Final = 0x80
DATA_BYTES_MAX: Final = 64 * 1024
CONTROL_BYTES_MAX: Final = 8 * 1024
"""Of the payload of any frame but DATA: such a frame is held until it is whole."""
STREAM_MAX: Final = 2**32 - 1


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    OPEN = 2
    DATA = 3
    WINDOW = 4
    END = 5
    RESET = 6
    PING = 7
    PONG = 8
    GOAWAY = 9


class Priority(enum.IntEnum):
    """Whose turn it is; the flags of OPEN and DATA."""

    URGENT = 0
    """Before all, and outside of the window that all streams share; few streams may be."""
    INTERACTIVE = 1
    BULK = 2


_KINDS: Final = {int(kind): kind for kind in Kind}
_DATA: Final = int(Kind.DATA)
Part = tuple[Kind, int, StreamId, bytes]
"""Kind, flags, stream and payload; of DATA, so much as has come."""


def encode(kind: Kind, stream: StreamId, payload: bytes = b"", flags: int = 0) -> bytes:
    """A whole frame."""
    return HEAD.pack(kind, flags, stream, len(payload)) + payload


class FrameParser:
    """Finds frames in what comes, however it was cut; holds one control frame at most."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._left = 0
        """Of the payload of a DATA frame that came in part, or of an optional one that is left out."""
        self._flags = 0
        self._stream: StreamId | None = None
        self.unknown = 0
        """Optional frames that were left out."""

    @property
    def held_bytes(self) -> int:
        """What is kept of a frame that has not come whole."""
        return len(self._held)

    def parse(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """The frames, and parts of DATA, that are there now.

        Raises PeerProtocolError for what is none; the parser is of no more use then.
        """
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._left:
                until = min(end, at + self._left)
                self._left -= until - at
                if self._stream is not None:
                    yield Kind.DATA, self._flags, self._stream, bytes(view[at:until])
                at = until
                continue
            if self._held:
                at += self._fill(view, at)
                part = self._whole()
                if part is not None:
                    yield part
                continue
            if end - at < HEAD.size:
                self._held += view[at:]
                return
            kind, flags, stream, length = HEAD.unpack_from(view, at)
            if kind == _DATA and length <= DATA_BYTES_MAX:
                self._flags, self._stream, self._left = flags, StreamId(stream), length
                at += HEAD.size
                continue
            self._check(kind, length)
            whole = at + HEAD.size + length
            if whole > end:
                self._held += view[at:]
                self._leave_out(kind, length)
                return
            if kind in _KINDS:
                yield _KINDS[kind], flags, StreamId(stream), bytes(view[at + HEAD.size : whole])
            else:
                self.unknown += 1
            at = whole

    def _fill(self, view: memoryview, at: int) -> int:
        """Take from `view` what the held frame lacks; how much it was."""
        held = self._held
        wanted = HEAD.size
        if len(held) >= HEAD.size:
            wanted += int.from_bytes(held[6:10], "big")
        taken = view[at : at + wanted - len(held)]
        held += taken
        return len(taken)

    def _whole(self) -> Part | None:
        """The held frame if it is whole now."""
        held = self._held
        if len(held) < HEAD.size:
            return None
        kind, flags, stream, length = HEAD.unpack_from(held)
        if kind == _DATA and length <= DATA_BYTES_MAX:
            held.clear()
            self._flags, self._stream, self._left = flags, StreamId(stream), length
            return None
        self._check(kind, length)
        if kind not in _KINDS:
            self._leave_out(kind, length)
            return None
        if len(held) < HEAD.size + length:
            return None
        payload = bytes(held[HEAD.size :])
        held.clear()
        return _KINDS[kind], flags, StreamId(stream), payload

    def _leave_out(self, kind: int, length: int) -> None:
        """Of an optional frame nothing is held."""
        if kind not in _KINDS:
            self._left = length - (len(self._held) - HEAD.size)
            self._stream = None
            self._held.clear()
            self.unknown += 1

    def _check(self, kind: int, length: int) -> None:
        if kind in _KINDS:
            bytes_max = DATA_BYTES_MAX if kind == _DATA else CONTROL_BYTES_MAX
            if length > bytes_max:
                name = Kind(kind).name
                raise PeerProtocolError(f"a peer announces a {name} frame of {length} bytes; {bytes_max} is the most")
        elif not kind & OPTIONAL:
            raise PeerProtocolError(f"a peer sends a frame of kind {kind}, which this node does not know")
        elif length > DATA_BYTES_MAX:
            raise PeerProtocolError(f"a peer announces a frame of {length} bytes; {DATA_BYTES_MAX} is the most")
