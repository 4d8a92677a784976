"""One connection a pair: what happens when both dial, when one begins anew, and when one stops."""

from collections.abc import Callable

import pytest
import trio

from node.mesh.purpose import Purpose
from orca.errors import NodeUnreachableError
from tests.node.mesh.credentials import TrustedCluster
from tests.node.mesh.party import A, B, Party, two


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 - what is asked has no event
            await trio.sleep(0.01)


def connections(party: Party) -> list[bool]:
    """For each connection of `party`: whether it dialled it."""
    return [one.is_dialler for one in party.mesh._connections]


async def talk(party: Party, other: Party, pieces: int) -> None:
    """Send and get back, piece by piece."""
    async with party.mesh.connect_stream(other.node, Purpose.TUNNEL, subject=b"me") as stream:
        for number in range(pieces):
            sent = b"%d" % number * 1000
            await stream.send_all(sent)
            got = b""
            while len(got) < len(sent):
                got += await stream.receive_some()
            assert got == sent
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_when_both_dial_at_once_nothing_is_lost_and_the_smaller_ones_connection_stays(
    cluster: TrustedCluster,
) -> None:
    async with two(cluster) as (a, b, _nursery):
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(talk, a, b, 30)
                    nursery.start_soon(talk, b, a, 30)
        await until(lambda: connections(a) == [True] and connections(b) == [False])
        await talk(b, a, 3)
        assert connections(b) == [False], "the connection that is kept serves both directions"
        assert a.subjects == [b"me"] * 6


async def test_streams_share_one_connection(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(talk, a, b, 2)
        assert connections(a) == [True]
        (status,) = a.mesh.peers()
        assert (status.node, status.is_connected, status.is_dialler) == (B, True, True)
        assert status.sent_bytes > 50 * 2000


async def test_a_node_that_stops_says_so_and_its_peers_notice_at_once(cluster: TrustedCluster) -> None:
    async with trio.open_nursery() as nursery:
        a, b = (Party(node, {}, cluster.credentials(node)) for node in (A, B))
        await a.start(nursery)
        scope = await b.start(nursery)
        a.places[B] = b.places[B]
        async with a.mesh.connect_stream(B, Purpose.TUNNEL) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            scope.cancel()
            with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="the peer is stopping"):
                await stream.receive_some()
        nursery.cancel_scope.cancel()


async def test_a_peer_that_began_anew_takes_the_place_of_its_former_life(cluster: TrustedCluster) -> None:
    """Its old connection looks fine to the other for a while: nobody has told it that the process is gone."""
    async with two(cluster) as (a, b, nursery):
        await talk(a, b, 1)
        again = Party(B, a.places, cluster.credentials(B))
        await again.start(nursery)
        await talk(again, a, 1)
        await until(lambda: connections(a) == [False])
        assert connections(b) == []


async def test_a_large_body_that_waits_for_its_reader_does_not_keep_others_from_going_through(
    cluster: TrustedCluster,
) -> None:
    async with two(cluster) as (a, b, _nursery), a.mesh.connect_stream(B, Purpose.TUNNEL) as stream:
        with trio.move_on_after(0.3):
            await stream.send_all(bytes(16 * 2**20))  # echoed into nobody's hands
        a.mesh.send(B, b"vote")
        await b.wait_for(1)
        await talk(a, b, 3)


async def test_who_is_forgotten_gets_nothing_any_more(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        a.mesh.send(B, b"one")
        await b.wait_for(1)
        a.mesh.forget(B)
        a.mesh.send(B, b"two")  # who sends again begins anew
        await b.wait_for(2)
        assert [message for _, message in b.received] == [b"one", b"two"]


async def test_a_mesh_that_does_not_run_reaches_nobody(cluster: TrustedCluster) -> None:
    party = Party(A, {}, cluster.credentials(A))
    party.mesh.send(B, b"lost")
    with pytest.raises(NodeUnreachableError, match="does not run"):
        async with party.mesh.connect(B, Purpose.CONTENT):
            pass
