"""What reading a stream leaves behind."""

import gc
from contextlib import suppress

import msgpack
import pytest

from gossip.codec import CodecError, PacketCodec, StreamReader
from gossip.codec.streams import encode_stream
from gossip.messages import PushPull

WHOLE = encode_stream(PushPull(nodes=(), user_state=b"state " * 1000, is_compressed=True), PacketCodec())
PLAIN = encode_stream(PushPull(nodes=(), user_state=b"state " * 1000), PacketCodec())


@pytest.mark.parametrize(
    "data", [PLAIN[:-1], WHOLE[:-1], PLAIN[:3], WHOLE, b"\x06\xc1"], ids=["half", "half of it", "head", "whole", "none"]
)
def test_what_was_read_of_a_stream_is_free_as_soon_as_its_reader_is(data: bytes) -> None:
    """Half a state may be 20 MiB: it must not wait until the collector of cycles comes by."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with suppress(CodecError):
                StreamReader(PacketCodec()).feed(data)
        assert not [one for one in gc.get_objects() if isinstance(one, msgpack.Unpacker)]
    finally:
        gc.enable()
