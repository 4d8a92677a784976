"""Ways from this node to a peer's gossip port, tried from sockets of their own."""

import secrets
from typing import Final

import trio

from gossip.codec import CodecError, PacketCodec, StreamReader
from gossip.codec.frames import encode_message
from gossip.codec.streams import encode_stream
from gossip.messages import Ack, Address, Ping

TRY_S: Final = 2.0
UDP_TRIES: Final = 3
"""A datagram may be lost on a good link; three in a row are not."""
_RECEIVE_BYTES: Final = 65_536


async def ping_udp(peer: str, address: Address, codec: PacketCodec) -> tuple[float | None, str]:
    """Milliseconds until the gossip of `peer` acknowledged a ping by UDP, or None and why not."""
    family = trio.socket.AF_INET6 if ":" in address.host else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
        try:
            await socket.connect((address.host, address.port))
            for _ in range(UDP_TRIES):
                sequence = secrets.randbits(32)
                began = trio.current_time()
                await socket.send(codec.pack([encode_message(Ping(sequence=sequence, node=peer))]))
                with trio.move_on_after(TRY_S / UDP_TRIES):
                    while True:
                        messages, _ = codec.unpack(await socket.recv(_RECEIVE_BYTES))
                        if any(isinstance(one, Ack) and one.sequence == sequence for one in messages):
                            return (trio.current_time() - began) * 1000, ""
        except OSError as error:
            return None, error.strerror or str(error)
    return None, f"no answer to {UDP_TRIES} pings in {TRY_S:g} s"


async def ping_tcp(peer: str, address: Address, codec: PacketCodec) -> tuple[float | None, str]:
    """Milliseconds until the gossip of `peer` acknowledged a ping by TCP, or None and why not."""
    reader = StreamReader(codec)
    sequence = secrets.randbits(32)
    began = trio.current_time()
    try:
        with trio.fail_after(TRY_S):
            async with await _connect(address) as stream:
                await stream.send_all(encode_stream(Ping(sequence=sequence, node=peer), codec))
                while data := await stream.receive_some(_RECEIVE_BYTES):
                    message = reader.feed(bytes(data))
                    if isinstance(message, Ack) and message.sequence == sequence:
                        return (trio.current_time() - began) * 1000, ""
    except trio.TooSlowError:
        return None, f"no answer in {TRY_S:g} s"
    except (OSError, trio.BrokenResourceError) as error:
        return None, getattr(error, "strerror", None) or str(error)
    except CodecError as error:
        return None, f"an answer that cannot be read ({error.cause}): has it another gossip key?"
    return None, "it closed without an answer: has it another gossip key, or is another node there?"


async def _connect(address: Address) -> trio.SocketStream:
    family = trio.socket.AF_INET6 if ":" in address.host else trio.socket.AF_INET
    socket = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await socket.connect((address.host, address.port))
    except BaseException:
        socket.close()
        raise
    return trio.SocketStream(socket)
