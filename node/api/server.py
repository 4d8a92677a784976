"""The listeners of the API, and the way of one connection from its beginning to its end."""

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import trio

from node.api.audit import AuditTrail
from node.api.authentication import Door, Entrance, Gate, NodeDoor
from node.api.caller import Peer, PeerKind
from node.api.control import Control
from node.api.dispatcher import Dispatcher
from node.api.failure import answer_failure
from node.api.far import Connector, FarNodes
from node.api.guard import make_guard
from node.api.passport import read_passport
from orca.errors import AddressInUseError, NotAvailableError
from orca.http import HttpLimits, error_response, listen_unix, serve_http
from orca.model.ids import NodeId

CONNECTIONS_MAX: Final = 512
REFUSAL_TIMEOUT_S: Final = 1.0
HANDSHAKE_S: Final = 5.0
CATCH_UP_S: Final = 3.0
_PEER_CREDENTIALS: Final = struct.Struct("3i")


class ApiAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is reached."""

    tcp: tuple[tuple[str, int], ...]
    socket_path: str = ""


class ApiListen(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: on `host`:`port`, on a unix socket, or both.

    `names` are what else this node is called in URLs; a loopback address refuses other
    names. Above `connections_max` connections, new ones get 503. `tls` is asked for each
    connection by TCP, so that a certificate that was renewed is used at once; None is plain HTTP.
    """

    host: str | None = None
    port: int = 0
    socket_path: str | None = None
    names: tuple[str, ...] = ()
    connections_max: int = CONNECTIONS_MAX
    tls: Callable[[], ssl.SSLContext] | None = None


class Api:
    """One node's API, whichever way it is reached. `connect` leads to other nodes, where there is a way."""

    def __init__(
        self,
        control: Control,
        trust: Gate,
        trail: AuditTrail,
        *,
        connect: Connector | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self._control = control
        self.trust = trust
        self._dispatcher = Dispatcher(control, trail, None if connect is None else FarNodes(control, connect))
        self._limits = limits or HttpLimits()
        self._connections = 0

    async def serve(
        self, listen: ApiListen, *, task_status: trio.TaskStatus[ApiAddresses] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and serve until cancelled; `started` gives where. Raises `AddressInUseError` before that."""
        serving: list[tuple[trio.SocketListener, Callable[[trio.SocketStream], Awaitable[None]]]] = []
        tcp: list[tuple[str, int]] = []
        has_socket = False
        try:
            if listen.host is not None:
                for listener in await _listen_tcp(listen.host, listen.port):
                    tcp.append(_address(listener))
                    serving.append((listener, partial(self._serve_tcp, listen, tcp[-1][0])))
            if listen.socket_path is not None:
                serving.append((await listen_unix(listen.socket_path), partial(self._serve_unix, listen)))
                has_socket = True
            async with trio.open_nursery() as nursery:
                for listener, serve in serving:
                    await nursery.start(partial(trio.serve_listeners, serve, [listener]))
                task_status.started(ApiAddresses(tcp=tuple(tcp), socket_path=listen.socket_path or ""))
        finally:
            if has_socket and listen.socket_path is not None:
                with contextlib.suppress(OSError):  # its directory may be gone, then nothing is left to tidy up
                    os.unlink(listen.socket_path)  # noqa: PTH108
            for listener, _ in serving:
                listener.socket.close()

    async def serve_node(self, node: NodeId, stream: trio.abc.Stream, subject: bytes) -> None:
        """A stream of the mesh on which `node` makes calls for somebody, until it ends.

        Raises PeerProtocolError when `subject` does not say for whom.
        """
        passport = read_passport(subject)
        with trio.move_on_after(CATCH_UP_S):  # who asked may be known there by what is news here
            await self._control.wait_state(passport.revision)
        await self.converse(stream, NodeDoor(self.trust, self._control.tokens, node, passport))

    async def _serve_tcp(self, listen: ApiListen, address: str, stream: trio.SocketStream) -> None:
        try:
            name = stream.socket.getpeername()
        except OSError:  # it left before we looked
            await trio.aclose_forcefully(stream)
            return
        peer = Peer(kind=PeerKind.TCP, address=str(name[0]), port=int(name[1]))
        guarded_as = peer.address if self.trust.trusts(peer) else address
        names = listen.names if listen.host is None else (*listen.names, listen.host)
        await self._serve(stream, Door(self.trust, peer, make_guard(guarded_as, names)), listen)

    async def _serve_unix(self, listen: ApiListen, stream: trio.SocketStream) -> None:
        raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
        await self._serve(stream, Door(self.trust, Peer(kind=PeerKind.UNIX, uid=uid)), listen)

    async def _serve(self, stream: trio.SocketStream, door: Door, listen: ApiListen) -> None:
        tls = listen.tls if door.peer.kind is PeerKind.TCP else None
        if self._connections >= listen.connections_max:
            if tls is None:
                await _refuse(stream, listen.connections_max)
            else:
                await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            if tls is None:
                await self.converse(stream, door)
            elif (secured := await _secure(stream, tls())) is not None:
                await self.converse(secured, door)
        finally:
            self._connections -= 1

    async def converse(self, stream: trio.abc.Stream, entrance: Entrance) -> None:
        """Serve one connection that was let in by `entrance`, whatever it is made of."""
        await serve_http(
            stream,
            partial(self._dispatcher.answer, entrance),
            limits=self._limits,
            peer=str(entrance.peer),
            on_error=answer_failure,
        )


async def _secure(stream: trio.SocketStream, context: ssl.SSLContext) -> "trio.SSLStream[trio.SocketStream] | None":
    """TLS on `stream`; None when the other side does not manage it, and then it is closed."""
    secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    try:
        with trio.fail_after(HANDSHAKE_S):
            await secured.do_handshake()
    except (trio.TooSlowError, trio.BrokenResourceError):
        await trio.aclose_forcefully(stream)
        return None
    return secured


async def _refuse(stream: trio.SocketStream, connections_max: int) -> None:
    """Say that the node is full, without reading, and close."""
    error = NotAvailableError(f"the node serves {connections_max} connections already", hint="try again in a moment")
    answer = error_response(error)
    head = f"HTTP/1.1 503 Service Unavailable\r\ncontent-length: {len(answer.body)}\r\nretry-after: 1\r\n"
    head += "content-type: application/json\r\nconnection: close\r\n\r\n"
    try:
        with trio.move_on_after(REFUSAL_TIMEOUT_S):
            await stream.send_all(head.encode("ascii") + answer.body)
            await stream.send_eof()
            # The request is still to be taken in: closing now would reset the connection under the answer.
            while await stream.receive_some():
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _listen_tcp(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise AddressInUseError(
            f"the API cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another node or program uses it; choose another with --api-port or --port-offset",
        ) from error


def _address(listener: trio.SocketListener) -> tuple[str, int]:
    name = listener.socket.getsockname()
    return str(name[0]), int(name[1])
