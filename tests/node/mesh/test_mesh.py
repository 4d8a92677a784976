"""Two nodes and a stranger on real loopback sockets."""

import pytest
import trio

from node.mesh.driver import MeshAddress
from node.mesh.peer import LINK_MESSAGES_MAX
from node.mesh.purpose import Purpose
from orca.errors import ConflictError, NodeUnreachableError, NotAvailableError, NotFoundError
from orca.model.ids import NodeId
from tests.node.mesh.credentials import TrustedCluster
from tests.node.mesh.party import A, B, Party, two


async def test_messages_arrive_in_order_and_say_who_sent_them(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        for number in range(1000):
            a.mesh.send(B, b"%d" % number)
        await b.wait_for(1000)
        assert b.received == [(A, b"%d" % number) for number in range(1000)]


async def test_a_connection_of_another_purpose_asks_and_answers(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, _nursery), a.mesh.connect(B, Purpose.CONTENT) as frames:
        await frames.send([b"a question"])
        assert await frames.receive() == b"answer to a question"


async def test_a_peer_that_returns_is_reached_again_and_its_absence_was_told(cluster: TrustedCluster) -> None:
    async with trio.open_nursery() as nursery:
        places: dict[NodeId, MeshAddress] = {}
        a, b = Party(A, places, cluster.credentials(A)), Party(B, places, cluster.credentials(B))
        await a.start(nursery)
        scope = await b.start(nursery)
        a.mesh.send(B, b"first")
        await b.wait_for(1)
        scope.cancel()
        with trio.fail_after(10):
            while not a.unreachable:
                a.mesh.send(B, b"lost")
                await trio.sleep(0.01)
        again = Party(B, places, cluster.credentials(B))
        await again.start(nursery, places[B].port)
        with trio.fail_after(10):
            while not again.received:
                a.mesh.send(B, b"found")
                await trio.sleep(0.01)
        assert again.received[0][0] == A
        nursery.cancel_scope.cancel()


async def test_messages_to_nobody_are_dropped_and_memory_stays_bounded(cluster: TrustedCluster) -> None:
    async with trio.open_nursery() as nursery:
        places: dict[NodeId, MeshAddress] = {}
        a = Party(A, places, cluster.credentials(A))
        await a.start(nursery)
        for _ in range(3 * LINK_MESSAGES_MAX):
            a.mesh.send(B, b"x" * 100)
        with trio.fail_after(10):
            await a.missed.wait()
        with pytest.raises(NodeUnreachableError, match="nobody knows where n-b is"):
            async with a.mesh.connect(B, Purpose.CONTENT):
                pass
        nursery.cancel_scope.cancel()


async def test_a_stale_address_is_noticed(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, _nursery):
        a.places[NodeId("n-c")] = a.places[B]
        with pytest.raises(NotFoundError, match="n-c is looked for and n-b was found"):
            async with a.mesh.connect(NodeId("n-c"), Purpose.CONTENT):
                pass


async def test_two_nodes_with_one_identity_are_told_apart(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, nursery):
        twin = Party(B, {B: b.places[B]}, cluster.credentials(B))
        await twin.start(nursery)
        twin.places[B] = a.places[B]
        with pytest.raises((ConflictError, NotFoundError)):
            async with twin.mesh.connect(B, Purpose.CONTENT):
                pass


async def test_a_purpose_that_a_node_does_not_serve_is_refused(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, _nursery), a.mesh.connect(B, Purpose.STANDING) as frames:
        with pytest.raises(NotAvailableError, match="does not serve 'standing'"):
            await frames.receive()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x05\xa1"])
async def test_noise_ends_its_own_connection_only(cluster: TrustedCluster, noise: bytes) -> None:
    async with two(cluster) as (a, b, _nursery):
        async with await trio.open_tcp_stream(*a.places[B]) as stream:
            await stream.send_all(noise)
            await stream.send_eof()
            with trio.fail_after(10):
                assert await stream.receive_some(100) == b""
        a.mesh.send(B, b"still here")
        await b.wait_for(1)
