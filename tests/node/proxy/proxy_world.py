"""A proxy on loopback with recording upstreams, and a client that speaks raw bytes."""

import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from node.proxy.limits import ProxyLimits
from node.proxy.routes import RoutedService, Target, build_route_table
from node.proxy.server import ProxyServer, open_listeners
from orca.model.ids import AllocationId, ServiceId, SpecRevision
from orca.model.spec import RouteSpec
from orca.model.units import Instant, WallMs

Handler = Callable[["Peer"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class TrioClock:
    """The run's own clock; wall time stands still in 2024."""

    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(1_704_067_200_000)


class Peer:
    """One end of a connection in a test: reads heads and bodies by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""
        self.received = b""

    async def send(self, payload: bytes) -> None:
        await self.stream.send_all(payload)

    async def more(self) -> bool:
        got = await self.stream.receive_some(65536)
        self.buffer += got
        self.received += got
        return bool(got)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; what is there at the end of the stream when it never comes."""
        while mark not in self.buffer:
            if not await self.more():
                rest, self.buffer = self.buffer, b""
                return rest
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count and await self.more():
            pass
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    async def rest(self) -> bytes:
        while await self.more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    async def answer(self) -> bytes:
        """One response with Content-Length, whole."""
        head = await self.head()
        return head + await self.exactly(length_of(head))

    def reset(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


def length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that other tasks of this process bring about."""
    while not is_so():  # noqa: ASYNC110 - it is made of counters and sockets that offer no event
        await trio.sleep(0.01)


async def simple(peer: Peer) -> None:
    """Reads requests with Content-Length and answers each with `ok`."""
    while head := await peer.head():
        await peer.exactly(length_of(head))
        await peer.send(OK)


class Upstream:
    """A workload that keeps every byte which it received, by connection."""

    def __init__(self, name: str, handler: Handler, port: int) -> None:
        self.name = AllocationId(name)
        self.port = port
        self.connections: list[Peer] = []
        self._handler = handler

    @property
    def target(self) -> Target:
        return Target(allocation=self.name, port=80, host="127.0.0.1", host_port=self.port)

    @property
    def received(self) -> bytes:
        return b"".join(peer.received for peer in self.connections)

    async def serve(self, stream: trio.SocketStream) -> None:
        peer = Peer(stream)
        self.connections.append(peer)
        try:
            await self._handler(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.socket.close()


class World:
    """The proxy, its port, and the means to make workloads and clients."""

    def __init__(self, proxy: ProxyServer, port: int, tls_port: int, nursery: trio.Nursery) -> None:
        self.proxy = proxy
        self.port = port
        self.tls_port = tls_port
        self.nursery = nursery
        self.revision = 0
        self.clients: list[Peer] = []

    async def upstream(self, handler: Handler = simple, name: str = "alloc-a") -> Upstream:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made = Upstream(name, handler, listeners[0].socket.getsockname()[1])
        self.nursery.start_soon(trio.serve_listeners, made.serve, listeners)
        return made

    def route(
        self,
        *targets: Target,
        routes: Sequence[RouteSpec] = (RouteSpec(),),
        queue_timeout_s: float = 0.0,
        queue_max: int = 100,
        weights: Mapping[SpecRevision, int] | None = None,
        to_https: bool = False,
    ) -> None:
        self.revision += 1
        routed = RoutedService(
            service=ServiceId("default/web"),
            routes=tuple(routes),
            main_port=80,
            targets=targets,
            queue_timeout_s=queue_timeout_s,
            queue_max=queue_max,
            weights=dict(weights or {}),
            to_https=to_https,
        )
        self.proxy.set_table(build_route_table([routed], self.revision))

    async def serve_by(self, handler: Handler = simple, name: str = "alloc-a") -> Upstream:
        """An upstream that gets every request."""
        made = await self.upstream(handler, name)
        self.route(made.target)
        return made

    async def client(self) -> Peer:
        made = Peer(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(made)
        return made

    async def ask(self, request: bytes) -> bytes:
        """Send `request` on a new connection and read until the proxy closes it."""
        client = await self.client()
        await client.send(request)
        return await client.rest()


@asynccontextmanager
async def proxy_world(
    limits: ProxyLimits | None = None, trusted_networks: Sequence[str] = (), time_max_s: float = 30.0
) -> AsyncIterator[World]:
    """A running proxy; checks at the end that no connection met a bug and nothing stayed in flight."""
    proxy = ProxyServer(TrioClock(), random.Random(5), limits=limits, trusted_networks=trusted_networks)
    listeners, port = await open_listeners("127.0.0.1", 0)
    tls_listeners, tls_port = await open_listeners("127.0.0.1", 0)
    with trio.fail_after(time_max_s):
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.serve, listeners, tls_listeners)
            world = World(proxy, port, tls_port, nursery)
            try:
                yield world
            finally:
                for client in world.clients:
                    client.stream.socket.close()
            proxy.check_invariants()
            assert proxy.stats().bugs == 0, "a connection died of a bug"
            nursery.cancel_scope.cancel()
    assert proxy.stats().in_flight == 0
