"""Deadlines, caps, drains and listeners of the proxy."""

import random

import pytest
import trio

from node.proxy.limits import ProxyLimits
from node.proxy.routes import RoutedService, build_route_table
from node.proxy.server import ProxyServer, open_listeners
from orca.errors import AddressInUseError
from orca.model.ids import ServiceId
from orca.model.spec import RouteSpec
from tests.node.proxy.proxy_world import OK, Peer, TrioClock, proxy_world, simple, until

pytestmark = pytest.mark.integration

GET = b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n"


async def test_504_when_the_workload_does_not_answer() -> None:
    async def mute(peer: Peer) -> None:
        await peer.rest()

    async with proxy_world(ProxyLimits(response_timeout_s=0.1)) as world:
        upstream = await world.serve_by(mute)
        for request in (CLOSING_GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"):
            client = await world.client()
            await client.send(request)
            assert (await client.answer()).startswith(b"HTTP/1.1 504 ")
        assert upstream.received.count(b"GET") == 1


async def test_slow_heads_get_408_and_silent_connections_are_closed() -> None:
    async with proxy_world(ProxyLimits(header_timeout_s=0.2, idle_timeout_s=0.3, linger_timeout_s=0.1)) as world:
        await world.serve_by()
        loris = await world.client()
        silent = await world.client()

        async def drip() -> None:
            for byte in GET[:-4]:
                try:
                    await loris.send(bytes([byte]))
                except trio.BrokenResourceError:
                    return
                await trio.sleep(0.02)

        world.nursery.start_soon(drip)
        assert (await loris.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
        assert await silent.rest() == b""


async def test_a_body_that_stalls_is_given_up() -> None:
    async with proxy_world(ProxyLimits(stall_timeout_s=0.1)) as world:
        await world.serve_by()
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        assert world.proxy.stats().in_flight == 0


async def test_at_the_cap_an_idle_connection_gives_way() -> None:
    async with proxy_world(ProxyLimits(connections_max=2, linger_timeout_s=0.1)) as world:
        await world.serve_by()
        idle = [await world.client(), await world.client()]
        for client in idle:
            await client.send(GET)
            await client.answer()
        third = await world.client()
        await third.send(GET)
        assert (await third.answer()).endswith(b"ok")
        assert world.proxy.stats().evicted >= 1
        assert world.proxy.stats().connections <= 2


async def test_a_request_in_progress_finishes_when_its_target_leaves_the_table() -> None:
    gate = trio.Event()

    async def waiting(peer: Peer) -> None:
        await peer.head()
        await gate.wait()
        await peer.send(OK)

    async with proxy_world() as world:
        old = await world.serve_by(waiting, "alloc-old")
        client = await world.client()
        await client.send(GET)
        await until(lambda: bool(old.received))
        fresh = await world.serve_by(simple, "alloc-new")
        cut_off: list[int] = []

        async def drain() -> None:
            cut_off.append(await world.proxy.drain(old.name, 10.0))

        world.nursery.start_soon(drain)
        assert (await world.ask(CLOSING_GET)).endswith(b"ok")
        assert fresh.received
        assert cut_off == []
        gate.set()
        assert (await client.answer()).endswith(b"ok")
        await until(lambda: bool(cut_off))
        assert cut_off == [0]


async def test_a_drain_cuts_off_what_does_not_end_in_time() -> None:
    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        await peer.rest()

    async with proxy_world() as world:
        upstream = await world.serve_by(endless)
        client = await world.client()
        await client.send(GET)
        await client.until(b"part")
        world.route()
        assert await world.proxy.drain(upstream.name, 0.1) == 1
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()
        assert world.proxy.stats().in_flight == 0
        assert await world.proxy.drain(upstream.name, 5.0) == 0


async def test_no_request_is_lost_while_targets_are_swapped_under_load() -> None:
    async with proxy_world() as world:
        statuses: list[bytes] = []
        is_over = False

        async def load() -> None:
            client = await world.client()
            while not is_over:
                await client.send(GET)
                statuses.append((await client.answer())[:12])

        current = await world.serve_by(simple, "alloc-0")
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(load)
            for number in range(1, 11):
                await trio.sleep(0.02)
                replaced, current = current, await world.serve_by(simple, f"alloc-{number}")
                assert await world.proxy.drain(replaced.name, 5.0) == 0
                for peer in replaced.connections:
                    peer.stream.socket.close()
            is_over = True
        assert set(statuses) == {b"HTTP/1.1 200"}
        assert len(statuses) > 50


async def test_listeners_fall_back_to_the_second_port_and_say_so() -> None:
    taken, port = await open_listeners("127.0.0.1", 0)
    listeners, got = await open_listeners("127.0.0.1", port, 0)
    assert got not in (0, port)
    with pytest.raises(AddressInUseError, match=str(port)):
        await open_listeners("127.0.0.1", port)
    for listener in (*taken, *listeners):
        listener.socket.close()


async def test_a_proxy_that_stops_breaks_answers_off_instead_of_ending_them() -> None:
    """An HTTP/1.0 answer ends with its connection: a clean end would pass for a whole file."""

    async def endless(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        await peer.rest()

    proxy = ProxyServer(TrioClock(), random.Random(1))
    listeners, port = await open_listeners("127.0.0.1", 0)
    async with proxy_world() as world:
        upstream = await world.serve_by(endless)
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve, listeners)
            proxy.set_table(
                build_route_table(
                    [
                        RoutedService(
                            service=ServiceId("default/web"),
                            routes=(RouteSpec(),),
                            main_port=80,
                            targets=(upstream.target,),
                        )
                    ]
                )
            )
            client = Peer(await trio.open_tcp_stream("127.0.0.1", port))
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            await client.until(b"part")
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()
        client.stream.socket.close()
