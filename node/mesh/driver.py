"""The mesh on trio: the listener, the links that carry Raft messages, and connections for the rest."""

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Final, NamedTuple

import structlog
import trio

from node.mesh.frames import FrameStream
from node.mesh.hello import (
    HELLO_TIMEOUT_S,
    Hello,
    Purpose,
    Refused,
    Welcome,
    decode_greeting,
    encode_greeting,
    judge,
)
from orca.errors import (
    AddressInUseError,
    InvalidConfigError,
    NodeUnreachableError,
    OrcaError,
    PeerProtocolError,
    error_classes,
)
from orca.model.ids import ClusterId, NodeId
from orca.sources import Rng

_log = structlog.get_logger("orca.mesh")
CONNECT_TIMEOUT_S: Final = 3.0
SEND_TIMEOUT_S: Final = 5.0
"""A peer that takes nothing for so long is cut off; Raft sends again what got lost."""
LINK_MESSAGES_MAX: Final = 4096
LINK_BYTES_MAX: Final = 32 * 2**20
LINK_BATCH_BYTES: Final = 512 * 1024
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
CONNECTIONS_MAX: Final = 1024


class MeshAddress(NamedTuple):
    """Where a node's mesh listens."""

    host: str
    port: int


def listening_host(wanted: str) -> str:
    """Where the mesh of a node that others see at `wanted` may listen: there, or on 127.0.0.1 outside of loopback."""
    return wanted if ip_address(wanted).is_loopback else "127.0.0.1"


Handler = Callable[[NodeId, FrameStream], Awaitable[None]]
"""Serves one welcomed connection until it ends; the stream is closed for it."""


class Mesh:
    """One node's end of all its connections.

    `address_of` gives where a peer can be reached, None while nobody knows.
    """

    def __init__(
        self, cluster: ClusterId, node: NodeId, rng: Rng, *, address_of: Callable[[NodeId], MeshAddress | None]
    ) -> None:
        self.node = node
        self._cluster = cluster
        self._rng = rng
        self._address_of = address_of
        self._handlers: Mapping[Purpose, Handler] = {}
        self._links: dict[NodeId, _Link] = {}
        self._nursery: trio.Nursery | None = None
        self._host: str | None = None
        self._connections = 0
        self._unreachable: Callable[[NodeId], None] = lambda _peer: None

    async def run(
        self,
        handlers: Mapping[Purpose, Handler],
        host: str,
        port: int,
        *,
        unreachable: Callable[[NodeId], None] = lambda _peer: None,
        task_status: trio.TaskStatus[MeshAddress] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until cancelled; `started` gives the address that was taken.

        Raises InvalidConfigError for an address that is not loopback, AddressInUseError for a
        port that is taken. `unreachable` is told, at once, of a peer whose messages were dropped.
        """
        if not ip_address(host).is_loopback:
            raise InvalidConfigError(f"the mesh may listen on a loopback address only, and {host} is none")
        self._handlers = handlers
        self._unreachable = unreachable
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise AddressInUseError(f"the mesh cannot listen on {host}:{port}: {error.strerror or error}") from error
        async with trio.open_nursery() as nursery:
            self._nursery, self._host = nursery, host
            bound = listeners[0].socket.getsockname()
            task_status.started(MeshAddress(host, bound[1]))
            await trio.serve_listeners(self._serve, listeners, handler_nursery=nursery)

    def send(self, to: NodeId, message: bytes) -> None:
        """Put a Raft message on its way to `to`; returns at once, and may lose it."""
        link = self._links.get(to)
        if link is None:
            if self._nursery is None:
                return
            link = self._links[to] = _Link(self, to)
            self._nursery.start_soon(link.run)
        link.put(message)

    def forget(self, peer: NodeId) -> None:
        """End the link to a node that belongs to the group no more."""
        link = self._links.pop(peer, None)
        if link is not None:
            link.scope.cancel()

    def report_unreachable(self, peer: NodeId) -> None:
        """Messages to `peer` were lost."""
        self._unreachable(peer)

    def jitter(self, longest_s: float) -> float:
        """A pause of half to all of `longest_s`."""
        return self._rng.uniform(longest_s / 2, longest_s)

    @asynccontextmanager
    async def connect(self, to: NodeId, purpose: Purpose) -> AsyncIterator[FrameStream]:
        """A welcomed connection to `to`; raises NodeUnreachableError, or what the peer refused with."""
        frames = await self._open(to, purpose)
        try:
            yield frames
        finally:
            await frames.aclose()

    async def _open(self, to: NodeId, purpose: Purpose) -> FrameStream:
        address = self._address_of(to)
        if address is None:
            raise NodeUnreachableError(f"nobody knows where {to} is at present")
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            try:
                # Peers and firewalls know us by the address that we listen on.
                stream = await trio.open_tcp_stream(address.host, address.port, local_address=self._host)
            except OSError as error:
                raise NodeUnreachableError(f"{to} does not answer at {address.host}:{address.port}: {error}") from error
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            frames = FrameStream(stream)
            try:
                await self._greet(frames, to, purpose)
            except BaseException:
                await frames.aclose()
                raise
            return frames
        raise NodeUnreachableError(f"{to} did not answer at {address.host}:{address.port} in {CONNECT_TIMEOUT_S:g} s")

    async def _greet(self, frames: FrameStream, to: NodeId, purpose: Purpose) -> None:
        hello = Hello(cluster=self._cluster, node=self.node, to=to, purpose=purpose)
        await frames.send((encode_greeting(hello),))
        match decode_greeting(await frames.receive()):
            case Welcome():
                return
            case Refused(code=code, message=message):
                raise error_classes().get(code, OrcaError)(message)
            case _:
                raise PeerProtocolError(f"{to} answered a greeting with a greeting of its own")

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection from its first byte; nothing that it does reaches beyond it."""
        frames = FrameStream(stream)
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
                await self._serve_greeted(frames)
        except OrcaError as error:
            _log.debug("a mesh connection ended", reason=error.message)
        except OSError as error:
            _log.debug("a mesh connection ended", reason=str(error))
        finally:
            self._connections -= 1
            await frames.aclose()

    async def _serve_greeted(self, frames: FrameStream) -> None:
        with trio.move_on_after(HELLO_TIMEOUT_S) as scope:
            hello = decode_greeting(await frames.receive())
        if scope.cancelled_caught:
            return
        if not isinstance(hello, Hello):
            raise PeerProtocolError("a connection began with something else than a greeting")
        refusal = judge(hello, cluster=self._cluster, node=self.node)
        if refusal is None and hello.purpose not in self._handlers:
            refusal = Refused(code="not_available", message=f"{self.node} does not serve {hello.purpose.value}")
        with trio.move_on_after(SEND_TIMEOUT_S):
            await frames.send((encode_greeting(refusal or Welcome(node=self.node)),))
        if refusal is None:
            await self._handlers[hello.purpose](hello.node, frames)
        else:
            _log.warning("a peer was turned away", peer=hello.node, reason=refusal.message)


class _Link:
    """Carries Raft messages to one peer, in order, over one connection at a time.

    Bounded: what does not fit any more is dropped, the oldest first, because a newer
    message of Raft makes an older one superfluous more often than the other way round.
    """

    def __init__(self, mesh: Mesh, peer: NodeId) -> None:
        self.scope = trio.CancelScope()
        self._mesh = mesh
        self._peer = peer
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = trio.Event()
        self._failures = 0

    def put(self, message: bytes) -> None:
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        while len(self._waiting) > LINK_MESSAGES_MAX or self._waiting_bytes > LINK_BYTES_MAX:
            self._waiting_bytes -= len(self._waiting.popleft())
        self._wake.set()

    async def run(self) -> None:
        with self.scope:
            while True:
                await self._wait()
                try:
                    async with self._mesh.connect(self._peer, Purpose.RAFT) as frames:
                        self._failures = 0
                        await self._carry(frames)
                except (OrcaError, OSError) as error:
                    await self._pause(str(error))

    async def _carry(self, frames: FrameStream) -> None:
        """Send until the connection fails; a watcher notices a peer that closes while nothing is sent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, frames, nursery.cancel_scope)
            while True:
                await self._wait()
                with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                    await frames.send(self._take())
                if scope.cancelled_caught:
                    raise NodeUnreachableError(f"{self._peer} took nothing for {SEND_TIMEOUT_S:g} s")
        raise NodeUnreachableError(f"{self._peer} closed the connection")

    async def _watch(self, frames: FrameStream, scope: trio.CancelScope) -> None:
        with suppress(OrcaError):
            await frames.receive_some()
        scope.cancel()

    async def _wait(self) -> None:
        while not self._waiting:
            self._wake = trio.Event()
            await self._wake.wait()

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and size < LINK_BATCH_BYTES:
            message = self._waiting.popleft()
            size += len(message)
            batch.append(message)
        self._waiting_bytes -= size
        return batch

    async def _pause(self, reason: str) -> None:
        """Wait longer after each failure, with jitter; what waited meanwhile is stale."""
        if not self._failures:
            _log.info("a peer cannot be reached", peer=self._peer, reason=reason)
        self._failures += 1
        longest = min(RETRY_MAX_S, RETRY_FIRST_S * math.pow(2, min(self._failures, 10)))
        self._mesh.report_unreachable(self._peer)
        await trio.sleep(self._mesh.jitter(longest))
        self._waiting.clear()
        self._waiting_bytes = 0
