"""The mesh on trio: the listener, connections to peers, and who serves what comes on them."""

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec
import structlog
import trio

from node.mesh.connection import Connection, Serve, now
from node.mesh.credentials import JOIN_ALPN, MESH_ALPN, Credentials
from node.mesh.frames import FrameStream
from node.mesh.limits import AddressRates, WaitingRoom
from node.mesh.peer import Link, Peer
from node.mesh.purpose import Purpose
from node.mesh.session import Limits
from node.mesh.session.words import BOOT_BYTES
from node.mesh.streams import MeshStream
from node.mesh.tls import TlsPipe, TlsStream, connect, detached
from orca.errors import (
    AddressInUseError,
    ConflictError,
    ForbiddenError,
    NodeUnreachableError,
    NotFoundError,
    OrcaError,
    RemovedError,
)
from orca.model.ids import NodeId
from orca.sources import Rng

_log = structlog.get_logger("orca.mesh")
CONNECTIONS_MAX: Final = 1024
HANDSHAKES_MAX: Final = 128
HANDSHAKE_S: Final = 5.0
CONNECTIONS_PER_S: Final = 50.0
"""From one address; a handshake costs about a millisecond of processor time."""
CONNECTIONS_BURST: Final = 200.0
JOINS_MAX: Final = 16
JOIN_S: Final = 30.0
JOIN_BYTES_MAX: Final = 256 * 1024
TICK_S: Final = 1.0
REMOVED_RETRY_S: Final = 60.0
"""A node that was removed from its cluster knocks at its former peers no more often than this."""
RECHECK_S: Final = 30.0
"""A certificate that expires while its connection lasts is noticed after so long."""


class MeshAddress(NamedTuple):
    """Where a node's mesh listens."""

    host: str
    port: int


Handler = Callable[[NodeId, FrameStream], Awaitable[None]]
"""Serves one stream as frames until it ends; the stream is closed for it."""
StreamHandler = Serve
"""Serves one stream as bytes: who opened it, the stream, and the subject that it was opened with."""
JoinHandler = Callable[[TlsStream, str], Awaitable[None]]
"""Serves one who has no certificate yet, and the address that it comes from; the stream is closed for it."""


class MeshCounters(msgspec.Struct, kw_only=True):
    """What came to the listener."""

    accepted: int = 0
    too_many: int = 0
    """Connections that were closed at once: too many from one address, or in all."""
    handshakes_failed: int = 0
    handshakes_evicted: int = 0
    """Those that had to make place for others."""
    forbidden: int = 0
    """Peers whose certificate was none of ours, or not good any more."""
    joins: int = 0


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand with one peer."""

    node: NodeId
    is_connected: bool
    is_dialler: bool = False
    """This node dialled the connection that is used."""
    round_trip_s: float | None = None
    since_s: float = 0.0
    version: int = 0
    streams: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    refused_streams: int = 0
    last_error: str = ""


class Mesh:
    """One node's end of all its connections.

    `address_of` gives where a peer can be reached, None while nobody knows. Who a peer is and
    whether it may be here is what `credentials` say of its certificate, never what it says itself.
    """

    def __init__(
        self,
        node: NodeId,
        rng: Rng,
        *,
        address_of: Callable[[NodeId], MeshAddress | None],
        credentials: Credentials,
        limits: Limits = Limits(),
    ) -> None:
        self.node = node
        self.counters = MeshCounters()
        self._rng = rng
        self._address_of = address_of
        self._credentials = credentials
        self._limits = limits
        self._boot = secrets.token_bytes(BOOT_BYTES)
        self._servers: dict[str, tuple[Purpose, Serve]] = {}
        self._join: JoinHandler | None = None
        self._peers: dict[NodeId, Peer] = {}
        self._unflushed: dict[NodeId, Link] = {}
        self._connections: dict[Connection, None] = {}
        self._connected = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._local_host: str | None = None
        self._gate = trio.Lock()
        self._handshakes: WaitingRoom[trio.CancelScope] = WaitingRoom(HANDSHAKES_MAX)
        self._joins: WaitingRoom[trio.CancelScope] = WaitingRoom(JOINS_MAX)
        self._rates = AddressRates(CONNECTIONS_PER_S, CONNECTIONS_BURST)
        self._unreachable: Callable[[NodeId], None] = lambda _peer: None
        self.removed: Callable[[RemovedError], None] = lambda _error: None
        """Told what a peer says when this node is none of the cluster any more; set by whoever acts on it."""
        self._removal: RemovedError | None = None
        self._quiet_until = -math.inf

    async def run(
        self,
        handlers: Mapping[Purpose, Handler],
        host: str,
        port: int,
        *,
        stream_handlers: Mapping[Purpose, StreamHandler] | None = None,
        join: JoinHandler | None = None,
        unreachable: Callable[[NodeId], None] = lambda _peer: None,
        task_status: trio.TaskStatus[MeshAddress] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until cancelled; `started` gives the address that was taken.

        Raises AddressInUseError for an address that cannot be had. `unreachable` is told, at once, of a
        peer whose messages were dropped.
        """
        for purpose, handler in handlers.items():
            self._servers[purpose.value] = (purpose, partial(_serve_frames, handler))
        for purpose, serve in (stream_handlers or {}).items():
            self._servers[purpose.value] = (purpose, serve)
        self._join = join
        self._unreachable = unreachable
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise AddressInUseError(f"the mesh cannot listen on {host}:{port}: {error.strerror or error}") from error
        # Peers and firewalls know us by the address that we listen on, if it is one.
        self._local_host = None if ip_address(host).is_unspecified else host
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started(MeshAddress(host, listeners[0].socket.getsockname()[1]))
                for listener in listeners:
                    nursery.start_soon(self._listen, listener)
                nursery.start_soon(self._tick)
        finally:
            self._nursery = None
            for listener in listeners:
                listener.socket.close()

    # ------------------------------------------------------------------ for the rest of the node

    def send(self, to: NodeId, message: bytes) -> None:
        """Put a Raft message on its way to `to`; returns at once, and may lose it."""
        peer = self._peers.get(to)
        if peer is None or peer.link is None:
            if self._nursery is None:
                return
            peer = self._peer(to)
            peer.link = Link(peer, jitter=self._jitter, unreachable=self._unreachable)
            self._nursery.start_soon(peer.link.run)
        peer.link.put(message)
        self._unflushed[to] = peer.link

    def flush(self) -> None:
        """Let the Raft messages that wait leave now instead of in the next turn of the loop."""
        while self._unflushed:
            self._unflushed.popitem()[1].flush()

    def forget(self, peer: NodeId) -> None:
        """Send no more Raft messages to a node that belongs to the group no more."""
        known = self._peers.get(peer)
        if known is not None and known.link is not None:
            known.link.scope.cancel()
            known.link = None
            self._drop_idle(known)

    def recheck(self) -> None:
        """Look at every connection's certificate again, and close those whose is not good any more."""
        for connection in list(self._connections):
            try:
                self._credentials.authorize(connection.certificate)
            except ForbiddenError as error:
                self.counters.forbidden += 1
                _log.warning("a peer's certificate is good no more", peer=connection.peer, reason=error.message)
                connection.leave(error)

    def peers(self) -> tuple[PeerStatus, ...]:
        """How things stand with everybody that this node has talked to, in order of id."""
        return tuple(_status(self._peers[node]) for node in sorted(self._peers))

    @asynccontextmanager
    async def connect(self, to: NodeId, purpose: Purpose) -> AsyncIterator[FrameStream]:
        """A stream of frames to `to`; raises NodeUnreachableError, or what the peer refused with.

        What its handler refuses is raised by the first call that notices.
        """
        async with self.connect_stream(to, purpose) as stream:
            yield FrameStream(stream)

    @asynccontextmanager
    async def connect_stream(self, to: NodeId, purpose: Purpose, *, subject: bytes = b"") -> AsyncIterator[MeshStream]:
        """A stream of bytes to `to`, whose handler is given `subject`; raises as `connect` does."""
        connection = await self._peer(to).connection()
        stream = connection.open(purpose, subject)
        try:
            yield stream
        except BaseException:
            stream.abort(NodeUnreachableError("who opened the stream gave it up"))
            raise
        finally:
            stream.release()

    def _peer(self, node: NodeId) -> Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = Peer(self.node, node, self._dial, self._spawn)
        return peer

    def _drop_idle(self, peer: Peer) -> None:
        if peer.is_idle:
            self._peers.pop(peer.node, None)

    def _spawn(self, run: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is None:
            raise NodeUnreachableError("the mesh does not run")
        self._nursery.start_soon(run)

    def _jitter(self, longest_s: float) -> float:
        """A pause of half to all of `longest_s`."""
        return self._rng.uniform(longest_s / 2, longest_s)

    # ------------------------------------------------------------------ dialling

    async def _dial(self, to: NodeId) -> Connection:
        """A settled connection; raises why there is none. The caller limits the time."""
        if self._removal is not None and now() < self._quiet_until:
            raise RemovedError(self._removal.message)
        address = self._address_of(to)
        if address is None:
            raise NodeUnreachableError(f"nobody knows where {to} is at present")
        try:
            context = self._credentials.client_context()
            pipe = await connect(address.host, address.port, context, local_host=self._local_host)
        except OrcaError as error:
            raise type(error)(f"{to} at {address.host}:{address.port}: {error.message}") from error
        try:
            self._check_reached(to, pipe)
            connection = Connection(pipe, to, self._boot, self._limits, is_dialler=True, watcher=self)
            self._spawn(partial(self._carry, connection))
        except BaseException:
            pipe.close()
            raise
        try:
            await connection.settled.wait()
        except trio.Cancelled:
            connection.leave(NodeUnreachableError("it took too long to settle"))
            raise
        if connection.error is not None:
            raise type(connection.error)(f"{to} at {address.host}:{address.port}: {connection.error.message}")
        return connection

    def _check_reached(self, wanted: NodeId, pipe: TlsPipe) -> None:
        """Raise unless the certificate at the other end is that of `wanted`."""
        found = self._credentials.authorize(pipe.certificate or b"")
        if found == self.node:
            raise ConflictError(f"{self.node} is the id of both ends; two nodes share one data directory")
        if found != wanted:
            raise NotFoundError(f"{wanted} is looked for and {found} was found at its address")
        if pipe.alpn != MESH_ALPN:
            raise NodeUnreachableError(f"{wanted} does not speak {MESH_ALPN}")

    async def _carry(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._connected.set()
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            if (peer := self._peers.get(connection.peer)) is not None:
                self._drop_idle(peer)

    # ------------------------------------------------------------------ what connections tell

    def server_of(self, purpose: str) -> tuple[Purpose, Serve] | None:
        """What serves streams of `purpose` here."""
        return self._servers.get(purpose)

    def established(self, connection: Connection) -> None:
        """Both have greeted."""
        self._peer(connection.peer).adopt(connection)

    def measured(self, connection: Connection) -> None:
        """The peer answered a ping."""
        self._peer(connection.peer).settle(connection)

    def retired(self, connection: Connection) -> None:
        """No more streams can be opened on it."""
        peer = self._peers.get(connection.peer)
        if peer is not None:
            peer.retire(connection)
            if connection.error is not None:
                peer.last_error = connection.error.message
        if connection.is_left and isinstance(connection.error, RemovedError):
            self._removal, self._quiet_until = connection.error, now() + REMOVED_RETRY_S
            self.removed(connection.error)

    # ------------------------------------------------------------------ listening

    async def _listen(self, listener: trio.SocketListener) -> None:
        assert self._nursery is not None, "it runs in it"
        while True:
            try:
                sock, address = await listener.socket.accept()
            except OSError as error:
                _log.warning("the mesh cannot take a connection", reason=error.strerror or str(error))
                await trio.sleep(0.1)
                continue
            self.counters.accepted += 1
            host = str(address[0])
            if len(self._connections) >= CONNECTIONS_MAX or not self._rates.take(host, now()):
                self.counters.too_many += 1
                sock.close()
                continue
            self._nursery.start_soon(self._serve, sock, host)

    async def _serve(self, sock: trio.socket.SocketType, host: str) -> None:
        """One connection from its first byte; nothing that it does reaches beyond it."""
        try:
            pipe = TlsPipe(detached(sock), self._credentials.server_context(), is_server=True)
        except OrcaError:
            return
        try:
            if await self._shake_hands(pipe, host):
                if pipe.alpn == MESH_ALPN:
                    await self._serve_peer(pipe, host)
                elif pipe.alpn == JOIN_ALPN:
                    await self._serve_join(pipe, host)
        except OrcaError as error:
            self.counters.handshakes_failed += 1
            _log.debug("a mesh connection ended", address=host, reason=error.message)
        finally:
            pipe.close()

    async def _shake_hands(self, pipe: TlsPipe, host: str) -> bool:
        """Whether both know each other in time."""
        with trio.move_on_after(HANDSHAKE_S) as scope:
            evicted = self._handshakes.enter(host, scope)
            if evicted is not None:
                self.counters.handshakes_evicted += 1
                evicted.cancel()
            try:
                await pipe.handshake(self._gate)
            finally:
                self._handshakes.leave(host, scope)
        return not scope.cancelled_caught

    async def _serve_peer(self, pipe: TlsPipe, host: str) -> None:
        refusal: OrcaError | None = None
        node = NodeId("")
        try:
            if pipe.certificate is None:
                raise ForbiddenError(f"{self.node} takes nobody without a certificate of its cluster")
            node = self._credentials.authorize(pipe.certificate)
            if node == self.node:
                raise ConflictError(f"{self.node} is the id of both ends; two nodes share one data directory")
        except (ForbiddenError, ConflictError) as error:
            refusal = error
        connection = Connection(pipe, node, self._boot, self._limits, is_dialler=False, watcher=self)
        if refusal is not None:
            self.counters.forbidden += 1
            _log.warning("a peer was turned away", address=host, reason=refusal.message)
            connection.leave(refusal)
        await self._carry(connection)

    async def _serve_join(self, pipe: TlsPipe, host: str) -> None:
        if self._join is None:
            return
        self.counters.joins += 1
        with trio.move_on_after(JOIN_S) as scope:
            evicted = self._joins.enter(host, scope)
            if evicted is not None:
                evicted.cancel()
            try:
                async with TlsStream(pipe, JOIN_BYTES_MAX) as stream:
                    await self._join(stream, host)
            except trio.BrokenResourceError as error:
                _log.debug("one who wanted to join went away", address=host, reason=str(error))
            finally:
                self._joins.leave(host, scope)

    async def _tick(self) -> None:
        """Let time pass for all connections: one timer for all of them."""
        recheck_at = now() + RECHECK_S
        while True:
            if not self._connections:
                self._connected = trio.Event()
                await self._connected.wait()
            due_at = min((connection.session.deadline() for connection in self._connections), default=0.0)
            await trio.sleep(max(TICK_S, min(due_at - now(), self._limits.soonest_s)))
            at = now()
            for connection in list(self._connections):
                connection.tick(at)
            if at >= recheck_at:
                recheck_at = at + RECHECK_S
                self.recheck()


async def _serve_frames(handler: Handler, peer: NodeId, stream: MeshStream, _subject: bytes) -> None:
    await handler(peer, FrameStream(stream))


def _status(peer: Peer) -> PeerStatus:
    used = peer.usable()
    if used is None:
        return PeerStatus(node=peer.node, is_connected=False, last_error=peer.last_error)
    counters = used.session.counters
    return PeerStatus(
        node=peer.node,
        is_connected=True,
        is_dialler=used.is_dialler,
        round_trip_s=used.session.round_trip_s,
        since_s=now() - used.began_at,
        version=used.version,
        streams=used.session.streams,
        sent_bytes=counters.sent_bytes,
        received_bytes=counters.received_bytes,
        refused_streams=counters.refused,
        last_error=peer.last_error,
    )
