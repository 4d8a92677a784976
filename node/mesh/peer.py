"""All that this node has with one other: connections, one of which is used, and Raft messages on their way."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from node.mesh.connection import Connection
from node.mesh.session import Ping
from node.mesh.streams import MeshStream
from orca.errors import ConflictError, NodeUnreachableError, OrcaError
from orca.model.ids import NodeId
from orca.wire import encode_frame

_log = structlog.get_logger("orca.mesh")
LINK_MESSAGES_MAX: Final = 4096
LINK_BYTES_MAX: Final = 32 * 2**20
LINK_BATCH_BYTES: Final = 256 * 1024
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 3.0

Dial = Callable[[NodeId], Awaitable[Connection]]


class _Attempt:
    """A connection that is being made; all that want one wait for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: OrcaError | None = None


class Peer:
    """One other node. `own` is this node's id, which decides which of two connections stays."""

    def __init__(
        self, own: NodeId, node: NodeId, dial: Dial, spawn: Callable[[Callable[[], Awaitable[None]]], None]
    ) -> None:
        self.node = node
        self.link: Link | None = None
        self.last_error = ""
        self._own = own
        self._dial = dial
        self._spawn = spawn
        self._connections: list[Connection] = []
        self._attempt: _Attempt | None = None
        self._changed = trio.Event()
        self._adopted = trio.Event()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that are not over, the one that is used first."""
        return tuple(self._connections)

    @property
    def is_idle(self) -> bool:
        """There is nothing to remember of it."""
        return not self._connections and self._attempt is None and self.link is None

    def usable(self) -> Connection | None:
        """The connection to open streams on."""
        return next((one for one in self._connections if one.is_usable), None)

    async def connection(self) -> Connection:
        """One to open streams on, made if there is none; raises why there cannot be one."""
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            while (found := self.usable()) is None:
                attempt = self._attempt
                if attempt is None:
                    attempt = self._attempt = _Attempt()
                    self._spawn(self._try)
                self._changed = trio.Event() if self._changed.is_set() else self._changed
                await self._changed.wait()
                if attempt.error is not None and self.usable() is None:
                    raise attempt.error
            return found
        raise NodeUnreachableError(f"{self.node} did not answer in {CONNECT_TIMEOUT_S:g} s")

    async def _try(self) -> None:
        attempt = self._attempt
        assert attempt is not None, "it was made before this began"
        try:
            with trio.move_on_after(CONNECT_TIMEOUT_S) as scope:
                await self._dial(self.node)
            if scope.cancelled_caught:
                attempt.error = NodeUnreachableError(f"{self.node} did not answer in {CONNECT_TIMEOUT_S:g} s")
        except OrcaError as error:
            attempt.error = error
        finally:
            self._attempt = None
            if attempt.error is not None:
                self.last_error = attempt.error.message
            self._changed.set()

    def adopt(self, connection: Connection) -> None:
        """Use `connection`, which has settled; of two that cross, both sides keep the same."""
        for other in self._connections:
            if not other.is_usable:
                continue
            if other.boot != connection.boot or other.is_dialler == connection.is_dialler:
                other.leave(ConflictError("a newer connection from the same side takes its place"))
        self._connections.append(connection)
        self._connections.sort(key=self._rank)
        best = self._connections[0]
        if best is connection:
            self.settle(best)
        else:
            best.post(Ping())  # it may be dead without anybody knowing yet: then the new one stays
        self._changed.set()
        self._adopted.set()

    async def adoption(self) -> None:
        """Wait for the next connection, whoever dials it."""
        if self._adopted.is_set():
            self._adopted = trio.Event()
        await self._adopted.wait()

    def _rank(self, connection: Connection) -> tuple[bool, bool]:
        """The best first: usable, and dialled by the smaller of the two."""
        return (not connection.is_usable, connection.is_dialler != (self._own < self.node))

    def settle(self, alive: Connection) -> None:
        """`alive` has just shown that it is; if it is the best, the others go when they are not needed any more."""
        if self._connections and alive is self._connections[0] and alive.is_usable:
            for other in self._connections[1:]:
                other.drain("another connection between the two nodes is kept")

    def retire(self, connection: Connection) -> None:
        """No more streams on `connection`."""
        if connection.session.is_closed and connection in self._connections:
            self._connections.remove(connection)
        self._connections.sort(key=self._rank)


class Link:
    """Carries Raft messages to one peer, in order, over one stream at a time.

    Bounded: what does not fit any more is dropped, the oldest first, because a newer
    message of Raft makes an older one superfluous more often than the other way round.
    """

    def __init__(self, peer: Peer, *, jitter: Callable[[float], float], unreachable: Callable[[NodeId], None]) -> None:
        self.scope = trio.CancelScope()
        self._peer = peer
        self._jitter = jitter
        self._unreachable = unreachable
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = trio.Event()
        self._carrier: Connection | None = None
        self._failures = 0

    def put(self, message: bytes) -> None:
        """Put `message` behind what waits; it leaves with all that comes in the same turn of the loop."""
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        while len(self._waiting) > LINK_MESSAGES_MAX or self._waiting_bytes > LINK_BYTES_MAX:
            self._waiting_bytes -= len(self._waiting.popleft())
        if self._carrier is not None:
            self._carrier.wake()
        else:
            self._wake.set()

    def flush(self) -> None:
        """Let what waits leave now, if the connection is free."""
        if self._waiting and self._carrier is not None:
            self._carrier.hurry()

    def take(self) -> bytes:
        """What waits, as frames; b"" for nothing."""
        frames: list[bytes] = []
        size = 0
        while self._waiting and size < LINK_BATCH_BYTES:
            message = self._waiting.popleft()
            size += len(message)
            frames.append(encode_frame(message))
        self._waiting_bytes -= size
        return b"".join(frames)

    async def run(self) -> None:
        """Send until cancelled."""
        with self.scope:
            while True:
                await self._wait()
                try:
                    stream, carrier = await self._begin()
                except OrcaError as error:
                    await self._pause(error.message)
                    continue
                self._carrier = carrier
                try:
                    await stream.over.wait()
                finally:
                    self._carrier = None
                    carrier.stop_carrying(stream)
                if carrier.error is None and carrier.session.is_draining:
                    continue  # it goes on at once on the other connection
                await self._pause(carrier.error.message if carrier.error else "the peer ended the stream")

    async def _begin(self) -> tuple[MeshStream, Connection]:
        carrier = await self._peer.connection()
        stream = carrier.carry(self)
        self._failures = 0
        return stream, carrier

    async def _wait(self) -> None:
        while not self._waiting:
            self._wake = trio.Event()
            await self._wake.wait()

    async def _pause(self, why: str) -> None:
        """Wait longer after each failure, with jitter, or for the peer; what waited meanwhile is stale."""
        if not self._failures:
            _log.info("a peer cannot be reached", peer=self._peer.node, reason=why)
        self._failures += 1
        longest = min(RETRY_MAX_S, RETRY_FIRST_S * math.pow(2, min(self._failures, 10)))
        self._unreachable(self._peer.node)
        with trio.move_on_after(self._jitter(longest)):
            await self._peer.adoption()  # a peer that was away and dials is there again
        self._waiting.clear()
        self._waiting_bytes = 0


__all__: Final = ["CONNECT_TIMEOUT_S", "LINK_MESSAGES_MAX", "Link", "Peer"]
