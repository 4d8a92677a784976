"""Raft's messages as they come on a stream of the mesh: in the turn in which they come, in order, whole."""

import random
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from consensus.raft import Message, encode_message
from consensus.raft.messages import Heartbeat
from node.group.transport import RaftTransport
from node.mesh.driver import Mesh
from node.mesh.session import Consumed, Event, StreamId
from node.mesh.streams import MeshStream
from orca.errors import NodeUnreachableError, PeerProtocolError
from orca.model.ids import LogIndex, NodeId, Term
from orca.wire import encode_frame
from tests.node.mesh.credentials import TrustedCluster

PEER = NodeId("n-b")


class Wire:
    """A connection that keeps what its stream tells it."""

    queue_bytes = 1_000

    def __init__(self) -> None:
        self.events: list[Event] = []

    def post(self, event: Event) -> None:
        self.events.append(event)

    def send(self, stream: StreamId, data: bytes) -> None:
        """Nothing is sent here."""

    def queued(self, _stream: StreamId) -> int:
        return 0

    def forget(self, stream: StreamId) -> None:
        """Nothing is kept here."""


class Rig:
    def __init__(self, cluster: TrustedCluster) -> None:
        node = NodeId("n-a")
        mesh = Mesh(node, random.Random(1), address_of=lambda _node: None, credentials=cluster.credentials(node))
        self.wire = Wire()
        self.stream = MeshStream(StreamId(1), self.wire)
        self.received: list[tuple[NodeId, Message]] = []
        self.transport = RaftTransport(mesh)
        self.transport.receive = lambda peer, message: self.received.append((peer, message))

    async def serve(self) -> None:
        await self.transport.serve(PEER, self.stream, b"")


@pytest.fixture
def rig() -> Iterator[Rig]:
    cluster = TrustedCluster()
    yield Rig(cluster)
    cluster.close()


def heartbeat(number: int) -> Heartbeat:
    return Heartbeat(term=Term(1), epoch=0, commit_index=LogIndex(number), round=number)


def frame(number: int) -> bytes:
    return encode_frame(encode_message(heartbeat(number)))


async def test_messages_are_taken_in_the_turn_in_which_they_come(rig: Rig) -> None:
    rig.stream.arrived(frame(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.serve)
        await trio.testing.wait_all_tasks_blocked()
        assert rig.received == [(PEER, heartbeat(1))], "what had come before"
        data = frame(2) + frame(3)
        rig.stream.arrived(data[:10])
        rig.stream.arrived(data[10:])
        assert [message for _, message in rig.received] == [heartbeat(1), heartbeat(2), heartbeat(3)]
        consumed = sum(event.count for event in rig.wire.events if isinstance(event, Consumed))
        assert consumed == len(frame(1) + data), "the peer gets its credit back"
        rig.stream.finished()


async def test_bytes_that_are_no_message_end_the_stream_and_nothing_after_them_is_taken(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(PeerProtocolError):
                await rig.serve()

        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        rig.stream.arrived(encode_frame(b"no message"))
        rig.stream.arrived(frame(1))
    assert rig.received == []


async def test_stream_that_ends_in_the_middle_of_a_message_is_an_error_of_the_peer(rig: Rig) -> None:
    rig.stream.arrived(frame(1)[:-1])
    rig.stream.finished()
    with pytest.raises(PeerProtocolError, match="in the middle of a frame"):
        await rig.serve()


async def test_connection_that_breaks_is_told_as_one(rig: Rig) -> None:
    rig.stream.broke(NodeUnreachableError("the cable"))
    with pytest.raises(NodeUnreachableError):
        await rig.serve()
