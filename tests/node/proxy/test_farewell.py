"""A copy stops only when every live node has let go of it, over a real mesh between two proxies."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.proxy import farewell
from node.proxy.farewell import Farewells
from node.proxy.routes import RoutedService, Target, build_route_table
from node.proxy.server import ProxyServer
from orca.model.ids import AllocationId, LogIndex, NodeId, ServiceId
from orca.model.spec import RouteSpec
from tests.node.mesh.credentials import TrustedCluster
from tests.node.proxy.proxy_world import Peer, TrioClock, proxy_world, until
from tests.node.proxy.test_server import CLOSING_GET

pytestmark = pytest.mark.integration
HERE, THERE = NodeId("n-a"), NodeId("n-b")
COPY = AllocationId("alloc-a")


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()


class Log:
    """How far a node's copy of the log is."""

    def __init__(self, index: int) -> None:
        self.applied_index = LogIndex(index)
        self._grown = trio.Event()

    def grow(self, index: int) -> None:
        self.applied_index = LogIndex(index)
        self._grown.set()
        self._grown = trio.Event()

    async def wait_applied(self, index: LogIndex) -> None:
        while self.applied_index < index:
            await self._grown.wait()


@asynccontextmanager
async def asking(
    cluster: TrustedCluster, other: ProxyServer, here: Log | None = None, there: Log | None = None
) -> AsyncIterator[Farewells]:
    """The farewells of a node whose only peer has the proxy `other`; their copies of the log are `here` and `there`."""
    here, there = here or Log(0), there or Log(0)
    places: dict[NodeId, MeshAddress] = {}
    proxies = {HERE: ProxyServer(TrioClock(), random.Random(1)), THERE: other}
    made: dict[NodeId, Farewells] = {}
    async with trio.open_nursery() as nursery:
        for node, proxy in proxies.items():
            mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=cluster.credentials(node))
            intent = here if node == HERE else there
            made[node] = Farewells(mesh, proxy.wait_unrouted, proxy.drain, others=lambda: [THERE], intent=intent)
            serving = partial(mesh.run, {Purpose.FAREWELL: made[node].serve}, "127.0.0.1", 0)
            places[node] = await nursery.start(serving)
        yield made[HERE]
        nursery.cancel_scope.cancel()


async def test_a_node_answers_when_it_neither_routes_to_the_copy_nor_waits_for_it(cluster: TrustedCluster) -> None:
    may_answer = trio.Event()

    async def late(peer: Peer) -> None:
        await peer.head()
        await may_answer.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with proxy_world() as world, asking(cluster, world.proxy) as farewells:
        upstream = await world.serve_by(late)
        client = await world.client()
        await client.send(CLOSING_GET)
        await until(lambda: bool(upstream.received))
        done = trio.Event()

        async def ask() -> None:
            await farewells.ask_all(COPY, 20.0)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with trio.move_on_after(0.2):
                await done.wait()
            assert not done.is_set(), "the copy is still routed to"
            world.route()
            with trio.move_on_after(0.2):
                await done.wait()
            assert not done.is_set(), "a request is still on its way"
            may_answer.set()
            with trio.fail_after(5):
                await done.wait()
        assert (await client.rest()).endswith(b"ok")


async def test_a_node_that_knows_nothing_of_the_copy_yet_answers_when_it_knows_that_it_stops(
    cluster: TrustedCluster,
) -> None:
    """Its log is behind: it would learn of the copy later, and send requests there until it learns of the stop."""
    unaware, here, there = ProxyServer(TrioClock(), random.Random(1)), Log(7), Log(5)
    async with asking(cluster, unaware, here, there) as farewells, trio.open_nursery() as nursery:
        done = trio.Event()

        async def ask() -> None:
            await farewells.ask_all(COPY, 20.0)
            done.set()

        nursery.start_soon(ask)
        with trio.move_on_after(0.2):
            await done.wait()
        assert not done.is_set(), "it does not know of the stop"
        there.grow(7)
        with trio.fail_after(5):
            await done.wait()


async def test_a_node_that_does_not_learn_of_the_stop_or_is_dead_holds_nobody_up(
    cluster: TrustedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "UNROUTED_S", 0.2)
    stale = ProxyServer(TrioClock(), random.Random(1))
    target = Target(allocation=COPY, port=80, host="127.0.0.1", host_port=1)
    routed = RoutedService(service=ServiceId("default/web"), routes=(RouteSpec(),), main_port=80, targets=(target,))
    stale.set_table(build_route_table([routed]))
    async with asking(cluster, stale) as farewells:
        with trio.fail_after(5):
            await farewells.ask_all(COPY, 20.0)
    with trio.fail_after(5):
        await farewells.ask_all(COPY, 20.0)
