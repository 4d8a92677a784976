"""Two nodes and whoever else on real loopback sockets."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from node.mesh.credentials import Credentials
from node.mesh.driver import JoinHandler, Mesh, MeshAddress
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.mesh.session import Limits
from node.mesh.streams import MeshStream
from orca.model.ids import NodeId
from tests.node.mesh.credentials import TrustedCluster

A, B = NodeId("n-a"), NodeId("n-b")


class Party:
    """A mesh that keeps what it receives, answers calls and echoes what is tunnelled."""

    def __init__(
        self,
        node: NodeId,
        places: dict[NodeId, MeshAddress],
        credentials: Credentials,
        *,
        join: JoinHandler | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.node = node
        self.places = places
        self.join = join
        self.mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=credentials, limits=limits)
        self.received: list[tuple[NodeId, bytes]] = []
        self.unreachable: list[NodeId] = []
        self.subjects: list[bytes] = []
        self.serving = 0
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

    async def echo(self, _peer: NodeId, stream: MeshStream, subject: bytes) -> None:
        self.subjects.append(subject)
        self.serving += 1
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
            await stream.send_eof()
        finally:
            self.serving -= 1

    async def start(self, nursery: trio.Nursery, port: int = 0) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[MeshAddress]) -> None:
            with scope:
                await self.mesh.run(
                    {Purpose.RAFT: self.raft, Purpose.CONTENT: self.call},
                    "127.0.0.1",
                    port,
                    stream_handlers={Purpose.TUNNEL: self.echo},
                    join=self.join,
                    unreachable=self.lost,
                    task_status=task_status,
                )

        self.places[self.node] = await nursery.start(run)
        return scope

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(10):
            while len(self.received) < count:
                self.came = trio.Event()
                await self.came.wait()


@asynccontextmanager
async def two(cluster: TrustedCluster, limits: Limits = Limits()) -> AsyncIterator[tuple[Party, Party, trio.Nursery]]:
    places: dict[NodeId, MeshAddress] = {}
    a, b = (Party(node, places, cluster.credentials(node), limits=limits) for node in (A, B))
    async with trio.open_nursery() as nursery:
        await a.start(nursery)
        await b.start(nursery)
        yield a, b, nursery
        nursery.cancel_scope.cancel()
