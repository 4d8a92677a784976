"""Any bytes whatsoever are decoded, or dropped and counted; never an exception, and nothing of them stays.

ORCA_FUZZ_CASES says how many; a failure names the bytes, and ORCA_FUZZ_SEED gives others.
"""

import faulthandler
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import pytest
import trio

from gossip.codec import CodecError, Keyring, PacketCodec, StreamReader
from gossip.codec.frames import decode_message
from gossip.codec.serf_frames import (
    decode_conflict_member,
    decode_coordinate,
    decode_key_request,
    decode_key_response,
    decode_serf,
    decode_tags,
)
from gossip.facts import FrameReceived
from gossip.facts.frames import Delta, Digest, FrameError, Item, Reach, Summary, decode_frame, encode_frame
from gossip.facts.frames import encode_message as encoded
from gossip.messages import Address, User
from gossip.rpc.server import RpcServer
from tests.gossip.fuzz import CASES, damaged
from tests.gossip.live.member import LiveMember, live_member
from tests.gossip.recorded import COMMANDS, DATAGRAMS, STREAMS
from tests.gossip.rpc.memory_backend import AUTH_KEY, MemoryBackend, is_backend

KEY = bytes(range(16))
FRAMES = [
    encode_frame("n1", [encoded(Summary(bytes(16)))]),
    encode_frame("n1", [encoded(Digest((Reach("n2", 3, 9, 0), Reach("n3", 1, 2, 1))))]),
    encode_frame("n1", [encoded(Delta("n2", 3, 0, 4, 0, (Item("a", 2, b"1"), Item("b", 4, None)), is_push=True))]),
]
SOCKET_CASES = max(500, CASES // 20)
GROWN_BYTES_MAX = 8 * 2**20
"""Allocators keep some of what they had; a message that stays, of hundreds of thousands, would be more."""
READERS = (decode_serf, decode_tags, decode_key_request, decode_key_response, decode_conflict_member, decode_coordinate)


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a number of the kernel's, not a file
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def user_payloads(codec: PacketCodec) -> list[bytes]:
    """What the layer above gets of the recorded datagrams."""
    messages = [message for datagram in DATAGRAMS for message in codec.unpack(datagram)[0]]
    return [message.payload for message in messages if isinstance(message, User)]


def read_all(codec: PacketCodec, sealing: PacketCodec, data: bytes) -> None:
    """Through every reader of the codec; ours raises CodecError and nothing else."""
    messages, drops = codec.unpack(data)
    assert messages or drops
    assert len(messages) + len(drops) <= 2048, "a datagram has a bounded number of parts"
    assert sealing.unpack(data)[1], "what is not sealed is dropped"
    with suppress(CodecError):
        decode_message(data)
    for read in READERS:
        with suppress(CodecError):
            read(data)
    with suppress(CodecError):
        StreamReader(codec).feed(data)
    with suppress(FrameError):
        decode_frame(data)


def check_codec(samples: Sequence[bytes], cases: int) -> None:
    codec, sealing = PacketCodec(), PacketCodec(Keyring([KEY], lambda: bytes(12)))
    for data in damaged(samples, min(cases, 2000), seed=0):  # so that what is built once is there before we measure
        read_all(codec, sealing, data)
    before = resident_bytes()
    for data in damaged(samples, cases):
        try:
            read_all(codec, sealing, data)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} at {data.hex()}") from error
    grown = resident_bytes() - before
    assert grown <= GROWN_BYTES_MAX, f"{grown} bytes more after {cases} byte strings"


def test_any_bytes_are_decoded_or_dropped_by_the_codec() -> None:
    samples = [*DATAGRAMS, *STREAMS, *FRAMES, *user_payloads(PacketCodec())]
    assert all(PacketCodec().unpack(datagram)[0] for datagram in DATAGRAMS), "undamaged they are all read"
    faulthandler.dump_traceback_later(300.0 + CASES / 1000, exit=True)  # in place of the limit that every test has
    check_codec(samples, CASES)


async def send_datagrams(member: LiveMember, packets: Iterator[bytes]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        for number, packet in enumerate(packets):
            udp.sendto(packet, member.address)
            if number % 32 == 0:  # the reader shares this thread, and its buffer is finite
                await trio.lowlevel.checkpoint()


async def send_streams(host: str, port: int, streams: Iterator[bytes]) -> None:
    """Each on a connection of its own, which ends when we have said it; answers are thrown away."""
    for data in streams:
        with suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(data)
                with suppress(trio.ClosedResourceError):
                    await stream.send_eof()
                with trio.move_on_after(2.0):
                    while await stream.receive_some(65536):
                        pass


async def grows_little(say: Callable[[int], Awaitable[None]]) -> None:
    await say(0)  # what is built once is there before we measure
    before = resident_bytes()
    await say(1)
    grown = resident_bytes() - before
    assert grown <= GROWN_BYTES_MAX, f"{grown} bytes more after {SOCKET_CASES} byte strings"


@pytest.mark.integration
async def test_a_member_survives_any_bytes_on_its_sockets_and_counts_them() -> None:
    async with live_member("hit") as hit, live_member("friend") as friend:
        await hit.join(friend.address)
        frames = [b"\x08" + payload for payload in [*FRAMES, *user_payloads(PacketCodec())]]

        async def say(seed: int) -> None:
            await send_datagrams(hit, damaged([*DATAGRAMS, *frames], SOCKET_CASES, seed))
            await send_streams(*hit.address, damaged([*STREAMS, *frames], SOCKET_CASES // 20, seed))

        await grows_little(say)
        drops = hit.machine.drops
        assert sum(count for cause, count in drops.items() if cause.startswith("codec_")) > SOCKET_CASES // 4
        hit.machine.check_invariants()
        handle = hit.handle
        await hit.join(friend.address)
        assert hit.handle == handle + 1, "it still joins"
        assert hit.statuses()["friend"] == "alive"


@pytest.mark.integration
async def test_the_rpc_port_survives_any_bytes_and_counts_them() -> None:
    server = RpcServer(is_backend(MemoryBackend()), auth_key=AUTH_KEY, port=0)
    async with trio.open_nursery() as nursery:
        address: Address = await nursery.start(server.run)
        whole = b"".join(COMMANDS)

        async def say(seed: int) -> None:
            await send_streams(address.host, address.port, damaged([*COMMANDS, whole], SOCKET_CASES // 20, seed))

        await grows_little(say)
        assert sum(server.drops.values()) > 0
        nursery.cancel_scope.cancel()


def test_facts_survive_any_frames_of_a_peer() -> None:
    from tests.gossip.facts.cluster import Cluster

    cluster = Cluster(3)
    for data in damaged(FRAMES, min(CASES, 20_000)):
        cluster.step("n0", FrameReceived(payload=data))
        cluster.sent.clear()
        cluster.wire.clear()
    assert cluster.nodes["n0"].drops
