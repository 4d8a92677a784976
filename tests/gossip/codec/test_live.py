"""A real agent reads what we write, and we read what it writes: packets and streams, plain and sealed."""

import base64
import random
import socket

import pytest
import trio

from gossip.codec import Keyring, PacketCodec, StreamReader
from gossip.codec.frames import encode_message
from gossip.codec.serf_frames import decode_serf, decode_tags
from gossip.codec.streams import encode_stream
from gossip.messages import (
    MEMBERLIST_VERSION,
    Ack,
    Address,
    Ping,
    PushPull,
    PushPullNode,
    SerfState,
    StreamMessage,
    WireState,
)
from tests.ports import free_port
from tests.serf_agent import HOST, Agent, running_agent

pytestmark = [pytest.mark.serf, pytest.mark.integration]
KEYS = {"plain": b"", "aes-128": bytes(range(16)), "aes-256": bytes(range(32))}


def codec_for(key: bytes) -> PacketCodec:
    rng = random.Random(3)
    return PacketCodec(Keyring([key], lambda: rng.randbytes(12)) if key else None)


async def ask(agent: Agent, message: StreamMessage, codec: PacketCodec) -> StreamMessage:
    reader = StreamReader(codec)
    async with await trio.open_tcp_stream(HOST, agent.port) as stream:
        await stream.send_all(encode_stream(message, codec))
        with trio.fail_after(10):
            async for data in stream:
                answer = reader.feed(bytes(data))
                if answer is not None:
                    return answer
    raise AssertionError("the agent closed without an answer")


@pytest.mark.parametrize("kind", list(KEYS))
async def test_states_are_exchanged_with_a_real_agent(kind: str) -> None:
    """The answer is compressed by the agent, so this reads Go's own LZW too."""
    key = KEYS[kind]
    codec = codec_for(key)
    encrypt = base64.b64encode(key).decode() if key else ""
    port = free_port()
    async with running_agent("real", encrypt=encrypt, tags=("role=db", "zone=a")) as agent:
        own = PushPullNode(
            node="ours",
            address=Address(HOST, port),
            meta=b"",
            incarnation=1,
            state=WireState.ALIVE,
            version=MEMBERLIST_VERSION,
        )
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind((HOST, port))
            answer = await ask(agent, PushPull(nodes=(own,), is_join=True), codec)
            assert isinstance(answer, PushPull)
            by_name = {node.node: node for node in answer.nodes}
            assert decode_tags(by_name["real"].meta) == {"role": "db", "zone": "a"}
            assert by_name["real"].address == Address(HOST, agent.port)
            assert by_name["real"].version == MEMBERLIST_VERSION
            state = decode_serf(answer.user_state)
            assert isinstance(state, SerfState)
            assert "real" in state.status_ltimes
            await agent.sees({"real": "alive", "ours": "alive"})
            await a_ping_is_answered(agent, udp, codec)
            await the_agent_pings_us(udp, codec)


async def a_ping_is_answered(agent: Agent, udp: socket.socket, codec: PacketCodec) -> None:
    host, port = udp.getsockname()
    ping = Ping(sequence=77, node="real", source=Address(host, port), source_node="ours")
    udp.sendto(codec.pack([encode_message(ping)], has_crc=True), (HOST, agent.port))
    acks = [message for message in await received(udp, codec, Ack) if isinstance(message, Ack)]
    assert acks[0].sequence == 77


async def the_agent_pings_us(udp: socket.socket, codec: PacketCodec) -> None:
    pings = [message for message in await received(udp, codec, Ping) if isinstance(message, Ping)]
    assert pings[0].node == "ours"
    assert pings[0].source_node == "real"


async def received(udp: socket.socket, codec: PacketCodec, kind: type) -> list[object]:
    """The messages of the first datagram with one of `kind` in it; every datagram can be read."""
    udp.setblocking(False)
    with trio.fail_after(10):
        while True:
            await trio.lowlevel.wait_readable(udp)
            messages, drops = codec.unpack(udp.recv(65_536))
            assert not drops
            if any(isinstance(message, kind) for message in messages):
                return list(messages)


async def test_an_exchange_that_we_compress_is_read_by_a_real_agent() -> None:
    """LZW as we write it, with codes of more than nine bits."""
    nodes = tuple(
        PushPullNode(
            node=f"quiet-{number}",
            address=Address(HOST, free_port()),
            meta=random.Random(number).randbytes(40),
            incarnation=1,
            state=WireState.ALIVE,
            version=MEMBERLIST_VERSION,
        )
        for number in range(20)
    )
    message = PushPull(nodes=nodes, is_compressed=True)
    assert encode_stream(message, codec_for(b""))[0] == 9
    async with running_agent("real") as agent:
        assert isinstance(await ask(agent, message, codec_for(b"")), PushPull)
        await agent.logs("EventMemberJoin: quiet-19")


async def test_a_stream_ping_is_answered() -> None:
    async with running_agent("real") as agent:
        assert await ask(agent, Ping(sequence=9, node="real"), codec_for(b"")) == Ack(sequence=9)
