"""Instances on other nodes: requests reach them through the mesh, and the node there connects to the instance.

An instance listens on its own computer only. The proxy that has a request for one elsewhere opens a mesh stream with
the allocation and the port as its subject; the node there looks up where that listens, connects, says so with one
byte, and from then on bytes pass both ways. The proxy's own end is an ordinary TCP connection of this computer, so
that everything which works on a connection to a local instance (polling it, resetting it) works here too.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final

import structlog
import trio

from node.mesh.driver import Mesh
from node.mesh.purpose import Purpose
from node.mesh.streams import MeshStream
from node.proxy.routes import Target
from orca.errors import InvalidRequestError, NotFoundError, OrcaError, PeerProtocolError, RuntimeUnavailableError
from orca.model.allocation import Endpoint
from orca.model.ids import AllocationId, NodeId

_log = structlog.get_logger("orca.proxy")
CONNECT_S: Final = 5.0
PIECE_BYTES: Final = 64 * 1024
CONNECTED: Final = b"\x01"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
FindEndpoint = Callable[[AllocationId, int], Endpoint | None]
"""Where a port of a copy of this node listens; None when it has no such copy that is to run."""


class RemoteInstances:
    """Both ends. `find` knows the copies of this node."""

    def __init__(self, mesh: Mesh, find: FindEndpoint) -> None:
        self._mesh = mesh
        self._find = find
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry bytes until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # ---------------------------------------------------------------------- from here

    async def dial(self, target: Target) -> trio.SocketStream:
        """A connection to `target`, which is on another node. Raises OSError when it cannot be had."""
        if self._nursery is None or target.node is None:
            raise OSError("the way to other nodes is not open")
        ours, theirs = _connection_pair()
        call = _Call()
        self._nursery.start_soon(self._carry, target.node, target, theirs, call)
        try:
            await call.is_settled.wait()
            if call.reason:
                raise OSError(f"{target.node}: {call.reason}")
        except BaseException:
            call.scope.cancel()
            ours.socket.close()
            raise
        return ours

    async def _carry(self, node: NodeId, target: Target, near: trio.SocketStream, call: "_Call") -> None:
        subject = f"{target.allocation}/{target.port}".encode()
        call.reason = "it was given up"
        try:
            with call.scope:
                async with self._mesh.connect_stream(node, Purpose.TUNNEL, subject=subject) as far:
                    if await far.receive_some(len(CONNECTED)) != CONNECTED:
                        raise PeerProtocolError(f"it did not say that it is connected to {target.allocation}")
                    call.reason = ""
                    call.is_settled.set()
                    await _pass_bytes(near, far)
        except (OrcaError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if not call.is_settled.is_set():
                call.reason = str(error.__cause__ or error)
        finally:
            call.is_settled.set()
            near.socket.close()

    # ---------------------------------------------------------------------- from others

    async def serve(self, peer: NodeId, stream: MeshStream, subject: bytes) -> None:
        """One connection of a peer's proxy to a copy of this node.

        Raises InvalidRequestError, NotFoundError, RuntimeUnavailableError: the peer is told.
        """
        allocation, slash, port = subject.decode("ascii", "replace").partition("/")
        if not (slash and port.isdecimal()):
            raise InvalidRequestError(f"{peer} wants to reach {subject[:80]!r}; write ALLOCATION/PORT")
        endpoint = self._find(AllocationId(allocation), int(port))
        if endpoint is None:
            raise NotFoundError(f"{self._mesh.node} runs no copy {allocation} with a port {port}")
        try:
            with trio.fail_after(CONNECT_S):
                near = await trio.open_tcp_stream(endpoint.host, endpoint.host_port)
        except (OSError, trio.TooSlowError) as error:
            raise RuntimeUnavailableError(f"the copy {allocation} does not take a connection: {error}") from error
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await stream.send_all(CONNECTED)
            await _pass_bytes(near, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.debug("a request from another node was cut off", peer=peer, reason=str(error))
            raise RuntimeUnavailableError("the connection to the copy broke") from error
        finally:
            near.socket.close()


class _Call:
    """A connection on its way; `reason` is empty once it stands."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.is_settled = trio.Event()
        self.reason = ""


async def _pass_bytes(near: trio.SocketStream, far: MeshStream) -> None:
    """Bytes both ways until both directions have ended.

    Raises trio.BrokenResourceError when one of them broke, after `near` was reset: what is cut off must not look whole.
    """
    broken: Exception | None = None

    async def copy(source: trio.abc.HalfCloseableStream, sink: trio.abc.HalfCloseableStream) -> None:
        nonlocal broken
        try:
            while data := await source.receive_some(PIECE_BYTES):
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            broken = error
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy, near, far)
        nursery.start_soon(copy, far, near)
    if broken is not None:
        near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        raise trio.BrokenResourceError(str(broken)) from broken


def _connection_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of one TCP connection of this computer; nobody else can have got in between.

    A pair of unix sockets would be cheaper, but closing one of those can only ever look like a clean end.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        ours = socket.create_connection(listener.getsockname(), timeout=1.0)
        theirs, address = listener.accept()
    if address != ours.getsockname():
        ours.close()
        theirs.close()
        raise OSError("a stranger connected to a connection of the proxy's own")
    made = []
    for one in (ours, theirs):
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.append(trio.SocketStream(trio.socket.from_stdlib_socket(one)))
    return made[0], made[1]
