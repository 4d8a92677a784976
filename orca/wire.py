"""Frames on a byte stream: a length of four bytes, big-endian, then so many bytes of payload.

Pure, and the only framing between nodes. What a payload means is its reader's affair;
that it is no longer than agreed is decided here, before any of it is kept.
"""

from typing import Final

from orca.errors import PeerProtocolError

PROTOCOL_VERSION: Final = 1
"""Of everything that nodes say to each other on mesh connections."""

PROTOCOL_VERSION_LEAST: Final = 1
"""The oldest version that is still understood: two nodes speak the newest that both know."""

FRAME_BYTES_MAX: Final = 8 * 2**20
"""Above any Raft message (4 MiB of payload and its overhead), small enough to be held in memory many times."""

_HEAD_BYTES: Final = 4


def encode_frame(payload: bytes) -> bytes:
    """`payload` with its length in front."""
    assert len(payload) <= FRAME_BYTES_MAX, f"a frame of {len(payload)} bytes; the peer takes {FRAME_BYTES_MAX}"
    return len(payload).to_bytes(_HEAD_BYTES, "big") + payload


class FrameReader:
    """Finds the frames in what arrives, however it was cut."""

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """The payloads that are whole now, in order.

        Raises PeerProtocolError for a frame longer than agreed; the stream is then of no more use.
        """
        self._held += data
        held = self._held
        frames: list[bytes] = []
        start, end = 0, len(held)
        while end - start >= _HEAD_BYTES:
            length = int.from_bytes(held[start : start + _HEAD_BYTES], "big")
            if length > self._bytes_max:
                raise PeerProtocolError(
                    f"a peer announces a frame of {length} bytes, and {self._bytes_max} is the most; "
                    "it speaks another protocol"
                )
            body = start + _HEAD_BYTES
            if end - body < length:
                break
            frames.append(bytes(held[body : body + length]))
            start = body + length
        if start:
            del held[:start]
        return frames

    @property
    def held_bytes(self) -> int:
        """What is kept of a frame that has not come whole."""
        return len(self._held)
