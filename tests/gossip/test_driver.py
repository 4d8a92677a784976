"""The driver on real sockets, where it can fail others: nothing keeps it from answering."""

import random

import trio

from gossip.codec import PacketCodec
from gossip.codec.frames import encode_message
from gossip.codec.streams import encode_stream
from gossip.driver import GossipDriver, open_sockets
from gossip.machine import Gossip, GossipConfig
from gossip.messages import Ack, Ping, PushPull
from node.sources import SystemClock
from tests.serf_agent import HOST

STATE_BYTES = 20_000
PINGS = 20


async def test_pings_are_answered_while_a_large_state_is_expanded() -> None:
    """What takes long is done in turns: 20 round trips fit between the last byte of a state and the answer to it."""
    codec, clock = PacketCodec(), SystemClock()
    sockets = await open_sockets(HOST, 0)
    machine = Gossip(GossipConfig(), "large", sockets.address, {}, codec, random.Random(1), clock.now())
    driver = GossipDriver(machine, clock, publish=lambda _news: None)
    state = encode_stream(
        PushPull(nodes=(), user_state=random.Random(2).randbytes(STATE_BYTES), is_compressed=True), codec
    )
    assert state[:1] == b"\x09", "it is compressed"
    answered = trio.Event()
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
        await udp.bind((HOST, 0))
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run, sockets)
            async with await trio.open_tcp_stream(*sockets.address) as stream:
                await stream.send_all(state)
                nursery.start_soon(_note_answer, stream, answered)
                for sequence in range(PINGS):
                    await udp.sendto(encode_message(Ping(sequence=sequence)), sockets.address)
                    (answer, *_), _ = codec.unpack(await udp.recv(2000))
                    assert isinstance(answer, Ack)
                    assert not answered.is_set(), f"the state was read after {sequence} pings"
                await answered.wait()
            nursery.cancel_scope.cancel()
    assert machine.drops["serf_state_unknown_type"] == 1


async def _note_answer(stream: trio.SocketStream, answered: trio.Event) -> None:
    assert await stream.receive_some(1)
    answered.set()
