"""The engine's framing of two outputs in one stream, and lines of JSON. Pure.

Docker Engine API, "ContainerAttach", section "Stream format": eight bytes of head (stream,
three zeros, size as a big-endian number), then the payload. In a log every frame is one
line, or one piece of 16 KiB of a longer line, behind its time and a space.
"""

import codecs
import struct
from typing import Any, Final

import msgspec

from node.runtime.base import LogLine, LogStream
from node.runtime.docker.reading import time_ns
from orca.model.units import WallMs

FRAME_BYTES_MAX: Final = 2**20
JSON_LINE_BYTES_MAX: Final = 2**20
PIECE_BYTES_MAX: Final = 16 * 1024

_HEAD: Final = struct.Struct(">BxxxL")


class FrameReader:
    """Cuts a stream into frames of (stream, payload)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[LogStream, bytes]]:
        """The frames that `chunk` completes; ValueError if it is no such stream."""
        self._buffer += chunk
        frames: list[tuple[LogStream, bytes]] = []
        start = 0
        while len(self._buffer) - start >= _HEAD.size:
            stream, size = _HEAD.unpack_from(self._buffer, start)
            if stream > 2 or size > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of stream {stream} and {size} bytes is none that the engine makes")
            end = start + _HEAD.size + size
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[start + _HEAD.size : end])
            frames.append((LogStream.STDERR if stream == 2 else LogStream.STDOUT, payload))
            start = end
        del self._buffer[:start]
        return frames


class LogReader:
    """Turns the frames of a log into lines, leaving out what came up to `after_ns`."""

    def __init__(self, after_ns: int = 0) -> None:
        self.last_ns = after_ns
        self._after_ns = after_ns
        self._frames = FrameReader()
        # A piece may end inside a character, which then goes on in the next piece.
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder(errors="replace") for stream in LogStream}

    @property
    def has_lines(self) -> bool:
        """Whether any line came."""
        return self.last_ns > self._after_ns

    def feed(self, chunk: bytes) -> list[LogLine]:
        """The lines that `chunk` completes; ValueError if it is no log."""
        lines: list[LogLine] = []
        for stream, payload in self._frames.feed(chunk):
            stamp, _, text = payload.partition(b" ")
            at_ns = time_ns(stamp.decode("ascii", "replace"))
            if at_ns <= self._after_ns:
                continue
            self.last_ns = max(self.last_ns, at_ns)
            is_whole = text.endswith(b"\n")
            text = text.removesuffix(b"\n")
            at_ms = WallMs(at_ns // 10**6)
            for start in range(0, max(len(text), 1), PIECE_BYTES_MAX):
                piece = text[start : start + PIECE_BYTES_MAX]
                is_last = is_whole and start + PIECE_BYTES_MAX >= len(text)
                decoded = self._decoders[stream].decode(piece, is_last)
                lines.append(LogLine(at_ms=at_ms, stream=stream, text=decoded))
        return lines


class JsonLines:
    """Cuts a stream into JSON objects, one a line."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The objects that `chunk` completes; ValueError if it holds something else."""
        self._buffer += chunk
        if b"\n" not in chunk:
            if len(self._buffer) > JSON_LINE_BYTES_MAX:
                raise ValueError(f"a line of more than {JSON_LINE_BYTES_MAX} bytes")
            return []
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        # msgspec's own DecodeError is a ValueError.
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line.strip()]
