"""Two nodes and a stranger on real loopback sockets."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from node.mesh.driver import LINK_MESSAGES_MAX, Mesh, MeshAddress
from node.mesh.frames import FrameStream
from node.mesh.hello import Hello, Purpose, Refused, decode_greeting, encode_greeting
from orca.errors import ConflictError, ForbiddenError, InvalidConfigError, NodeUnreachableError, NotFoundError
from orca.model.ids import ClusterId, NodeId
from orca.wire import encode_frame

A, B = NodeId("n-a"), NodeId("n-b")
CLUSTER = ClusterId("c-1")


class Party:
    """A mesh that keeps what it receives."""

    def __init__(self, node: NodeId, places: dict[NodeId, MeshAddress], cluster: ClusterId = CLUSTER) -> None:
        self.node = node
        self.places = places
        self.mesh = Mesh(cluster, node, random.Random(1), address_of=places.get)
        self.received: list[tuple[NodeId, bytes]] = []
        self.unreachable: list[NodeId] = []
        self.came = trio.Event()
        self.missed = trio.Event()

    def lost(self, peer: NodeId) -> None:
        self.unreachable.append(peer)
        self.missed.set()

    async def raft(self, peer: NodeId, frames: FrameStream) -> None:
        while batch := await frames.receive_some():
            self.received += [(peer, frame) for frame in batch]
            self.came.set()

    async def call(self, _peer: NodeId, frames: FrameStream) -> None:
        await frames.send([b"answer to " + await frames.receive()])

    async def start(self, nursery: trio.Nursery, port: int = 0) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[MeshAddress]) -> None:
            with scope:
                handlers = {Purpose.RAFT: self.raft, Purpose.CONTENT: self.call}
                await self.mesh.run(handlers, "127.0.0.1", port, unreachable=self.lost, task_status=task_status)

        self.places[self.node] = await nursery.start(run)
        return scope

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(10):
            while len(self.received) < count:
                self.came = trio.Event()
                await self.came.wait()


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Party, Party, trio.Nursery]]:
    places: dict[NodeId, MeshAddress] = {}
    a, b = Party(A, places), Party(B, places)
    async with trio.open_nursery() as nursery:
        await a.start(nursery)
        await b.start(nursery)
        yield a, b, nursery
        nursery.cancel_scope.cancel()


async def test_messages_arrive_in_order_and_say_who_sent_them() -> None:
    async with two() as (a, b, _nursery):
        for number in range(1000):
            a.mesh.send(B, b"%d" % number)
        await b.wait_for(1000)
        assert b.received == [(A, b"%d" % number) for number in range(1000)]


async def test_a_connection_of_another_purpose_asks_and_answers() -> None:
    async with two() as (a, _b, _nursery), a.mesh.connect(B, Purpose.CONTENT) as frames:
        await frames.send([b"a question"])
        assert await frames.receive() == b"answer to a question"


async def test_a_peer_that_returns_is_reached_again_and_its_absence_was_told() -> None:
    async with trio.open_nursery() as nursery:
        places: dict[NodeId, MeshAddress] = {}
        a, b = Party(A, places), Party(B, places)
        await a.start(nursery)
        scope = await b.start(nursery)
        a.mesh.send(B, b"first")
        await b.wait_for(1)
        scope.cancel()
        with trio.fail_after(10):
            while not a.unreachable:
                a.mesh.send(B, b"lost")
                await trio.sleep(0.01)
        again = Party(B, places)
        await again.start(nursery, places[B].port)
        with trio.fail_after(10):
            while not again.received:
                a.mesh.send(B, b"found")
                await trio.sleep(0.01)
        assert again.received[0][0] == A
        nursery.cancel_scope.cancel()


async def test_messages_to_nobody_are_dropped_and_memory_stays_bounded() -> None:
    async with trio.open_nursery() as nursery:
        places: dict[NodeId, MeshAddress] = {}
        a = Party(A, places)
        await a.start(nursery)
        for _ in range(3 * LINK_MESSAGES_MAX):
            a.mesh.send(B, b"x" * 100)
        with trio.fail_after(10):
            await a.missed.wait()
        with pytest.raises(NodeUnreachableError, match="nobody knows where n-b is"):
            async with a.mesh.connect(B, Purpose.CONTENT):
                pass
        nursery.cancel_scope.cancel()


async def test_a_node_of_another_cluster_is_turned_away_with_both_names() -> None:
    async with two() as (a, _b, nursery):
        stranger = Party(NodeId("n-x"), a.places, ClusterId("c-2"))
        await stranger.start(nursery)
        with pytest.raises(ForbiddenError, match="n-b belongs to cluster c-1, n-x to c-2"):
            async with stranger.mesh.connect(B, Purpose.CONTENT):
                pass


async def test_a_stale_address_is_noticed() -> None:
    async with two() as (a, _b, _nursery):
        a.places[NodeId("n-c")] = a.places[B]
        with pytest.raises(NotFoundError, match="n-c is looked for and n-b was found"):
            async with a.mesh.connect(NodeId("n-c"), Purpose.CONTENT):
                pass


async def test_two_nodes_with_one_identity_are_told_apart() -> None:
    async with two() as (a, b, nursery):
        twin = Party(B, {B: b.places[B]})
        await twin.start(nursery)
        twin.places[B] = a.places[B]
        with pytest.raises((ConflictError, NotFoundError)):
            async with twin.mesh.connect(B, Purpose.CONTENT):
                pass


async def test_another_version_is_refused_in_words() -> None:
    async with two() as (a, _b, _nursery):
        hello = Hello(version=99, cluster=CLUSTER, node=A, to=B, purpose=Purpose.RAFT)
        async with await trio.open_tcp_stream(*a.places[B]) as stream:
            await stream.send_all(encode_frame(encode_greeting(hello)))
            answer = decode_greeting(await FrameStream(stream).receive())
        assert isinstance(answer, Refused)
        assert "update the older of them" in answer.message


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x05\xa1"])
async def test_noise_ends_its_own_connection_only(noise: bytes) -> None:
    async with two() as (a, b, _nursery):
        async with await trio.open_tcp_stream(*a.places[B]) as stream:
            await stream.send_all(noise)
            await stream.send_eof()
            with trio.fail_after(10):
                assert await stream.receive_some(100) == b""
        a.mesh.send(B, b"still here")
        await b.wait_for(1)


async def test_an_address_that_others_can_reach_is_refused() -> None:
    party = Party(A, {})
    with pytest.raises(InvalidConfigError, match="loopback"):
        await party.mesh.run({}, "0.0.0.0", 0)
