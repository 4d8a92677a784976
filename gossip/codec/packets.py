"""Datagrams: label, seal, checksum, compound, compression (WIRE.md §3)."""

import zlib
from collections.abc import Sequence
from typing import Final

from gossip.codec.dialect import CodecError, Fields, blob, uint, unpack
from gossip.codec.frames import COMPOUND, COMPRESS, HAS_CRC, HAS_LABEL, decode_message
from gossip.codec.lzw import expand
from gossip.codec.sealing import OVERHEAD_BYTES, Keyring
from gossip.messages import PacketMessage

PACKET_BYTES_MAX: Final = 1400
"""Of plain bytes in a datagram that we send; fits every link without fragments."""
PARTS_MAX: Final = 255
EXPANDED_BYTES_MAX: Final = 65_536
"""A datagram holds no more than that uncompressed either."""
NESTING_MAX: Final = 4
"""A compound in a compression in a compound is what a real sender comes to."""
MESSAGES_MAX: Final = 1024
LABEL_BYTES_MAX: Final = 255


class PacketCodec:
    """What a member and its peers agreed on: keys and label.

    Without a keyring everything is plain. With one, plain packets are dropped unless
    `verifies_incoming` is off, which is for the time in which a cluster gets its first key.
    """

    def __init__(self, keyring: Keyring | None = None, label: bytes = b"", *, verifies_incoming: bool = True) -> None:
        if len(label) > LABEL_BYTES_MAX:
            raise ValueError(f"a label of {len(label)} bytes; {LABEL_BYTES_MAX} is the most")
        self.keyring = keyring
        self.label = label
        self.verifies_incoming = verifies_incoming
        self._label_head = bytes((HAS_LABEL, len(label))) + label if label else b""

    @property
    def overhead_bytes(self) -> int:
        """What label and seal add to a datagram."""
        return len(self._label_head) + (OVERHEAD_BYTES if self.keyring is not None else 0)

    def pack(self, frames: Sequence[bytes], *, has_crc: bool = False) -> bytes:
        """A datagram of `frames`, which the caller kept to `PACKET_BYTES_MAX` in sum; at most 255."""
        plain = frames[0] if len(frames) == 1 else _compound(frames)
        if has_crc:
            plain = bytes((HAS_CRC,)) + zlib.crc32(plain).to_bytes(4, "big") + plain
        if self.keyring is not None:
            plain = self.keyring.seal(plain, self.label)
        return self._label_head + plain

    def unpack(self, datagram: bytes) -> tuple[list[PacketMessage], list[str]]:
        """The messages in a datagram, and the cause of each part that was dropped."""
        messages: list[PacketMessage] = []
        drops: list[str] = []
        try:
            plain = self._opened(self.unlabelled(datagram))
            if plain[:1] == bytes((HAS_CRC,)):
                plain = _checked(plain)
            _collect(plain, messages, drops, NESTING_MAX)
        except CodecError as error:
            drops.append(error.cause)
        return messages, drops

    def unlabelled(self, data: bytes) -> bytes:
        """`data` behind its label, which must be ours. Raises CodecError."""
        if not self.label:
            if data[:1] == bytes((HAS_LABEL,)):
                # A sealed message may begin with any byte but this one: the versions of the seal are 0 and 1.
                raise CodecError("bad_label", "a label came, and this cluster has none")
            return data
        if not data.startswith(self._label_head):
            raise CodecError("bad_label", "the label of another cluster, or none")
        return data[len(self._label_head) :]

    def _opened(self, data: bytes) -> bytes:
        if self.keyring is None:
            return data
        try:
            return self.keyring.open(data, self.label)
        except CodecError:
            if self.verifies_incoming:
                raise
            return data


def _compound(frames: Sequence[bytes]) -> bytes:
    assert 1 < len(frames) <= PARTS_MAX, f"{len(frames)} parts; a compound holds 2 to {PARTS_MAX}"
    lengths = b"".join(len(frame).to_bytes(2, "big") for frame in frames)
    return bytes((COMPOUND, len(frames))) + lengths + b"".join(frames)


def _checked(plain: bytes) -> bytes:
    if len(plain) < 6:
        raise CodecError("truncated")
    if zlib.crc32(plain[5:]) != int.from_bytes(plain[1:5], "big"):
        raise CodecError("bad_crc")
    return plain[5:]


def _collect(frame: bytes, messages: list[PacketMessage], drops: list[str], depth: int) -> None:
    """Add what is in `frame` to `messages` and why something is not to `drops`."""
    try:
        if len(messages) >= MESSAGES_MAX or not depth:
            raise CodecError("too_many", "too many messages in one datagram")
        kind = frame[0] if frame else -1
        if kind == COMPOUND:
            for part in _parts(frame, drops):
                _collect(part, messages, drops, depth - 1)
        elif kind == COMPRESS:
            _collect(expanded(frame[1:], EXPANDED_BYTES_MAX), messages, drops, depth - 1)
        else:
            messages.append(decode_message(frame))
    except CodecError as error:
        if len(drops) < MESSAGES_MAX:
            drops.append(error.cause)


def expanded(body: bytes, bytes_max: int) -> bytes:
    """The frame inside a compressed one. Raises CodecError."""
    return expand(compressed_bytes(unpack(body)), bytes_max)


def compressed_bytes(fields: Fields) -> bytes:
    """What is to be expanded, in the body of a compressed frame. Raises CodecError."""
    if uint(fields, b"Algo", 8) != 0:
        raise CodecError("compression", "an algorithm that nobody uses")
    return blob(fields, b"Buf")


def _parts(frame: bytes, drops: list[str]) -> list[bytes]:
    if len(frame) < 2:
        raise CodecError("truncated")
    count = frame[1]
    if not count:
        raise CodecError("empty", "a compound of nothing")
    place = 2 + 2 * count
    if len(frame) < place:
        raise CodecError("truncated")
    parts = []
    for number in range(count):
        length = int.from_bytes(frame[2 + 2 * number : 4 + 2 * number], "big")
        if place + length > len(frame):
            drops.append("truncated")
            break
        parts.append(frame[place : place + length])
        place += length
    return parts
