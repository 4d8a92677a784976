"""Accepts clients and gives each a task; the door through which the node uses the proxy."""

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Final

import structlog
import trio

from node.proxy.carriage import Handover
from node.proxy.certificates import CertificateTable
from node.proxy.connection import ClientConnection
from node.proxy.door import TlsDoor
from node.proxy.faults import ClientGoneError
from node.proxy.lane import Lane
from node.proxy.latency import ServiceTraffic
from node.proxy.limits import ProxyLimits
from node.proxy.routes import RouteTable
from node.proxy.tls import quiet_about_names
from node.proxy.traffic import ProxyStats, Traffic
from node.proxy.upstream import Dial, dial_through
from node.proxy.wires import Connected, Wire
from orca.errors import AddressInUseError
from orca.model.ids import AllocationId, ServiceId
from orca.sources import Clock, Rng

_log = structlog.get_logger(__name__)
_CLIENT_WENT_AWAY: Final = frozenset({errno.ECONNABORTED, errno.EPROTO})
_ACCEPT_PAUSE_S: Final = 0.1
_EXPIRE_INTERVAL_S: Final = 1.0
_ACCEPTS: Final = 64
"""Clients that are admitted before others have their turn."""
_BACKLOG: Final = 1024


class ProxyServer:
    """The proxy of one node.

    `trusted_networks` (CIDR) are load balancers in front of it: what they say about the
    client in X-Forwarded-* is kept; what anybody else says is replaced.
    """

    def __init__(
        self, clock: Clock, rng: Rng, *, limits: ProxyLimits | None = None, trusted_networks: Sequence[str] = ()
    ) -> None:
        self._limits = limits if limits is not None else ProxyLimits()
        trusted = [ip_network(network) for network in trusted_networks]
        self._traffic = Traffic(clock, rng, self._limits, trusted)
        self._lane = Lane(self._traffic, self._leave_lane, self._linger)
        self._door = TlsDoor(self._traffic, self._lane.adopt)
        self._nursery: trio.Nursery | None = None
        self._served_slowly = 0
        self._has_room = trio.Event()
        self._stirred = trio.Event()

    def reach_other_nodes(self, dial: Dial) -> None:
        """Targets on other nodes are reached by `dial` from now on."""
        self._traffic.pool.dial = dial_through(dial)

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        tls_listeners: Sequence[trio.SocketListener] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept on all listeners until cancelled; closes them and every connection at its end."""
        for listener in tls_listeners:
            self._traffic.https_port = int(listener.socket.getsockname()[1])
        try:
            with quiet_about_names():
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._lane.reactor.run)
                    nursery.start_soon(self._expire_idle)
                    for listener in listeners:
                        nursery.start_soon(self._accept_from, listener, self._lane.adopt)
                    for listener in tls_listeners:
                        nursery.start_soon(self._accept_from, listener, self._let_in)
                    task_status.started()
        finally:
            self._nursery = None
            self._lane.close()
            for listener in (*listeners, *tls_listeners):
                listener.socket.close()

    def set_table(self, table: RouteTable) -> None:
        """Route by `table` from now on; requests under way go on as they began."""
        self._traffic.set_table(table)

    def set_certificates(self, table: CertificateTable) -> None:
        """Show the certificates of `table` from now on; connections that are there go on as they began."""
        self._traffic.certificates = table
        self._door.front.set_table(table)

    async def drain(self, allocation: AllocationId, timeout_s: float) -> int:
        """Wait for the requests in flight to `allocation`, at most `timeout_s`.

        Gives the number that were cut off then. Call it after `set_table` with a table
        without the allocation; else new requests keep it busy until the time is up.
        """
        return await self._traffic.drain(allocation, timeout_s)

    async def wait_unrouted(self, allocation: AllocationId) -> None:
        """Return when the table has no target of `allocation`."""
        await self._traffic.wait_unrouted(allocation)

    def services(self) -> Mapping[ServiceId, ServiceTraffic]:
        """What each service has answered, to look at."""
        return self._traffic.latencies.all()

    def queues(self) -> Mapping[ServiceId, float]:
        """How much of each service's room for waiting requests is taken, where any is."""
        return self._traffic.queues()

    def stats(self) -> ProxyStats:
        """The counters of this moment; the caller may keep the object."""
        stats = self._traffic.stats()
        stats.connections = self._count()
        return stats

    def check_invariants(self) -> None:
        """Raises AssertionError when the books do not balance."""
        self._traffic.check_invariants()

    async def _accept_from(self, listener: trio.SocketListener, admit: Callable[[socket.socket, str], None]) -> None:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as listening:
            listening.setblocking(False)
            while True:
                await self._make_room()
                await trio.lowlevel.wait_readable(listening)
                try:
                    self._accept_some(listening, admit)
                except OSError as error:
                    # Mostly out of descriptors: trying again at once would only burn the processor.
                    _log.warning("proxy_accept_failed", reason=str(error))
                    self._evict_idle()
                    await trio.sleep(_ACCEPT_PAUSE_S)

    def _accept_some(self, listening: socket.socket, admit: Callable[[socket.socket, str], None]) -> None:
        """Admit those who wait, as long as there is room, and not all of a crowd at once. Raises OSError."""
        for _ in range(min(_ACCEPTS, self._limits.connections_max - self._count())):
            try:
                connected, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _CLIENT_WENT_AWAY:
                    raise
                continue
            connected.setblocking(False)
            self._traffic.counters.connections_total += 1
            self._stirred.set()
            admit(connected, _plain_address(str(address[0])))

    def _let_in(self, connected: socket.socket, peer: str) -> None:
        assert self._nursery is not None, "a client came before the proxy was started"
        self._nursery.start_soon(self._door.let_in, connected, peer)

    def _count(self) -> int:
        return len(self._lane.connections) + self._served_slowly + self._door.count

    async def _make_room(self) -> None:
        """Wait until another connection fits; the oldest that is idle gives way."""
        while self._count() >= self._limits.connections_max:
            self._evict_idle()
            if self._count() < self._limits.connections_max:
                return
            self._has_room = trio.Event()
            with trio.move_on_after(_EXPIRE_INTERVAL_S):
                await self._has_room.wait()

    def _evict_idle(self) -> None:
        self._traffic.counters.evicted += self._lane.evict_idle()

    def _leave_lane(self, connected: Connected, peer: str, received: bytes, handover: Handover | None) -> None:
        assert self._nursery is not None, "a request came before the proxy was started"
        self._served_slowly += 1
        self._nursery.start_soon(self._serve_slowly, connected, peer, received, handover)

    async def _serve_slowly(self, connected: Connected, peer: str, received: bytes, handover: Handover | None) -> None:
        """One request outside the fast lane; no error of it gets past here."""
        rest: bytes | None = None
        try:
            rest = await ClientConnection(self._traffic, connected, peer, received, handover).run()
        except Exception:  # noqa: BLE001 - one client's bad luck must not end every other client's connection
            self._traffic.counters.bugs += 1
            _log.exception("proxy_connection_failed", peer=peer)
        finally:
            self._served_slowly -= 1
            self._has_room.set()
        if rest is not None:
            self._lane.adopt(connected, peer, rest)

    def _linger(self, connected: Connected) -> None:
        assert self._nursery is not None, "a connection ended before the proxy was started"
        wire = Wire(connected, ClientGoneError, self._limits.stall_timeout_s)
        self._nursery.start_soon(wire.close_gently, self._limits.linger_timeout_s)

    async def _expire_idle(self) -> None:
        pool = self._traffic.pool
        while True:
            if self._is_at_rest():
                self._stirred = trio.Event()
                await self._stirred.wait()
            await trio.sleep(_EXPIRE_INTERVAL_S)
            pool.expire()
            self._lane.expire(trio.current_time())

    def _is_at_rest(self) -> bool:
        """No connection is open to a client or kept to a copy: none can be open for too long."""
        return not (self._served_slowly or self._lane.connections or self._traffic.pool.has_kept)


def _plain_address(host: str) -> str:
    return host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host


async def open_listeners(
    host: str | None, port: int, fallback_port: int | None = None
) -> tuple[list[trio.SocketListener], int]:
    """Listening sockets and the port that they got: `port`, or else `fallback_port`.

    The fallback is for a port that needs privileges or is taken; port 0 takes any free
    one. Raises AddressInUseError when no port can be had.
    """
    problems: list[str] = []
    for candidate in (port, *(() if fallback_port is None else (fallback_port,))):
        try:
            listeners = await trio.open_tcp_listeners(candidate, host=host, backlog=_BACKLOG)
        except OSError as error:
            problems.append(f"port {candidate}: {error.strerror or error}")
            continue
        for listener in listeners:
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listeners, int(listeners[0].socket.getsockname()[1])
    raise AddressInUseError(
        f"the proxy cannot listen on {host or 'any address'}: {'; '.join(problems)}",
        hint="stop what listens there, or choose another port for the proxy",
    )
