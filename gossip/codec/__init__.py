"""Bytes to messages and back, exactly as memberlist and Serf write them (WIRE.md §1-3, §5, §6).

Layers, outermost first: label, seal, checksum, then one message, or several in a
compound, or a compressed one of either. `packets` does all of that for datagrams and
`streams` for TCP; `frames` knows single messages of memberlist, `serf_frames` what Serf
puts into its user messages.

Rules. Whatever bytes come in, the answer is a message or a `CodecError` with a short
`cause` to count; nothing else is raised, and `PacketCodec.unpack` raises nothing at all.
Everything has a limit before it is kept: bytes in, bytes after decompression, nesting,
parts, nodes in a push/pull. Reading is as tolerant as Go's reader (any width of number, raw,
str8 or bin for text and bytes, missing and unknown keys, bytes behind the value); writing is
strict: the old raw family only, keys in order, the smallest number.

Written by us: no compression, no version 0 of the seal, no checksum to peers whose
protocol does not have it. Read: all of them.
"""

from gossip.codec.dialect import CodecError
from gossip.codec.packets import PacketCodec
from gossip.codec.sealing import Keyring
from gossip.codec.streams import StreamReader

__all__ = ["CodecError", "Keyring", "PacketCodec", "StreamReader"]
