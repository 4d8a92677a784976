"""Connections to instances of another node, over a real mesh."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.proxy.remote import RemoteInstances
from node.proxy.routes import Target
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId, NodeId
from tests.node.mesh.credentials import TrustedCluster

pytestmark = pytest.mark.integration
HERE, THERE = NodeId("n-a"), NodeId("n-b")
COPY = AllocationId("aaaaaaaaaaaa")


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()


class Instance:
    """Echoes what it gets, or is cut off after the first piece."""

    def __init__(self) -> None:
        self.breaks = False
        self.served = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.served += 1
        async for data in stream:
            await stream.send_all(data)
            if self.breaks:
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                stream.socket.close()
                return
        await stream.send_eof()


@asynccontextmanager
async def two_nodes(cluster: TrustedCluster) -> AsyncIterator[tuple[RemoteInstances, Instance]]:
    """The proxy's side of one node, and an instance that runs on the other."""
    places: dict[NodeId, MeshAddress] = {}
    instance = Instance()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, instance.serve, 0, host="127.0.0.1"))
        port = int(listeners[0].socket.getsockname()[1])

        def find(allocation: AllocationId, wanted: int) -> Endpoint | None:
            is_known = (allocation, wanted) == (COPY, 80)
            return Endpoint(port=80, host="127.0.0.1", host_port=port) if is_known else None

        made = []
        for node in (HERE, THERE):
            mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=cluster.credentials(node))
            made.append(RemoteInstances(mesh, find))
            await nursery.start(made[-1].run)
            serving = partial(mesh.run, {}, "127.0.0.1", 0, stream_handlers={Purpose.TUNNEL: made[-1].serve})
            places[node] = await nursery.start(serving)
        yield made[0], instance
        nursery.cancel_scope.cancel()


def target(port: int = 80, allocation: AllocationId = COPY, node: NodeId | None = THERE) -> Target:
    return Target(allocation=allocation, node=node, port=port, host="127.0.0.1", host_port=1)


async def read_all(stream: trio.SocketStream) -> bytes:
    found = b""
    with trio.fail_after(20):
        async for data in stream:
            found += data
    return found


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(cluster: TrustedCluster) -> None:
    payload = random.Random(2).randbytes(3_000_000)
    async with two_nodes(cluster) as (remote, instance), trio.open_nursery() as nursery:
        stream = await remote.dial(target())
        async with stream:

            async def send() -> None:
                await stream.send_all(payload)
                await stream.send_eof()

            nursery.start_soon(send)
            assert await read_all(stream) == payload
        assert instance.served == 1


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (target(port=81), "runs no copy aaaaaaaaaaaa with a port 81"),
        (target(allocation=AllocationId("b")), "runs no copy b"),
        (target(node=NodeId("n-nobody")), "nobody knows where n-nobody is"),
        (target(node=None), "is not open"),
    ],
)
async def test_what_cannot_be_reached_is_an_error_before_a_byte_was_sent(
    cluster: TrustedCluster, wanted: Target, words: str
) -> None:
    async with two_nodes(cluster) as (remote, instance):
        with trio.fail_after(20), pytest.raises(OSError, match=words):
            await remote.dial(wanted)
        assert instance.served == 0


async def test_an_answer_that_is_cut_off_on_the_other_node_does_not_look_whole(cluster: TrustedCluster) -> None:
    async with two_nodes(cluster) as (remote, instance):
        instance.breaks = True
        stream = await remote.dial(target())
        async with stream:
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await read_all(stream)


async def test_a_proxy_that_goes_away_is_noticed_by_the_instance(cluster: TrustedCluster) -> None:
    async with two_nodes(cluster) as (remote, instance):
        for _ in range(3):
            stream = await remote.dial(target())
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            stream.socket.close()
        assert instance.served == 3
