"""The fast lane: plain requests, carried by callbacks without a task of their own.

A connection lives here while it is idle and while its requests are plain: the whole request arrived in one read, a
copy is ready, a kept connection to it is at hand, and the answer has a length or is chunked. Anything else (a head
in pieces, a body that streams, Expect, Upgrade, an answer that ends with its connection, nobody ready, a refusal)
leaves the lane: the socket and all that was read go to a task that does it the long way, together with what is on its
way to a target already (`Handover`). Afterwards the connection comes back.

So the lane never answers by itself, never tries again and never refuses: there is one place for each of these.
"""

from collections.abc import Callable
from typing import Final, Protocol

from node.proxy.carriage import Carriage, Handover, Tools
from node.proxy.pipes import PipePool
from node.proxy.plain import PlainReader
from node.proxy.reactor import BROKEN, ENDED, READABLE, WRITABLE, Reactor
from node.proxy.tls import TlsSocket
from node.proxy.traffic import Traffic
from node.proxy.wires import READ_BYTES, Connected, reset_socket

BODY_BYTES_MAX: Final = 32 * 1024
"""Longer request bodies stream, the long way."""


class GiveWay(Protocol):
    """How a request leaves the lane."""

    def __call__(self, connected: Connected, peer: str, received: bytes, handover: Handover | None, /) -> None:
        """Serve the next request of a client, of which `received` is here, in a task of its own."""
        ...


class Lane:
    """All connections in the fast lane of one proxy.

    `give_way` serves one request the long way and may call `adopt` afterwards; `linger` closes a socket gently.
    """

    def __init__(self, traffic: Traffic, give_way: GiveWay, linger: Callable[[Connected], None]) -> None:
        self.connections: dict[int, LaneConnection] = {}
        self.reactor = Reactor(self._count_bug)
        self.linger = linger
        self.give_way = give_way
        self.tools = Tools(
            traffic=traffic,
            reactor=self.reactor,
            reader=PlainReader(traffic.limits.head_lines_max, traffic.limits.target_bytes_max),
            pipes=PipePool(),
            limits=traffic.limits,
        )
        traffic.pool.reactor = self.reactor

    def adopt(self, connected: Connected, peer: str, received: bytes = b"") -> None:
        """Serve the requests of a client from here on; `received` is what it has sent already."""
        connection = LaneConnection(self, connected, peer)
        self.connections[connection.fd] = connection
        connection.start(received)

    def forget(self, connection: "LaneConnection") -> None:
        """The connection is not in the lane any more."""
        self.connections.pop(connection.fd, None)
        self.reactor.forget(connection.fd)

    def evict_idle(self) -> bool:
        """Close the connection that came first of those that are idle."""
        for connection in self.connections.values():
            if connection.is_idle:
                connection.close()
                return True
        return False

    def expire(self, now: float) -> None:
        """End what has waited too long; to be called about once a second with trio's time."""
        for connection in list(self.connections.values()):
            connection.expire(now)

    def close(self) -> None:
        """Close all; an answer that is under way breaks off visibly."""
        for connection in list(self.connections.values()):
            connection.abort()
        self.tools.pipes.close()
        self.tools.traffic.pool.close()
        self.reactor.close()

    def _count_bug(self) -> None:
        self.tools.traffic.counters.bugs += 1


class LaneConnection:
    """One client in the lane; `_input` is what it has sent and nobody has answered."""

    __slots__ = (
        *(
            "_carriage",
            "_consumed",
            "_forwarded",
            "_has_ended",
            "_input",
            "_is_readable",
            "_is_trusted",
            "_lane",
            "_since",
        ),
        *("fd", "peer", "socket"),
    )

    def __init__(self, lane: Lane, connected: Connected, peer: str) -> None:
        self.socket = connected
        self.fd = connected.fileno()
        self.peer = peer
        self._is_trusted = lane.tools.traffic.is_trusted(peer)
        scheme = b"https" if isinstance(connected, TlsSocket) else b"http"
        said = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: "
        self._forwarded = said % (peer.encode("ascii"), scheme)
        self._lane = lane
        self._since = lane.reactor.now
        self._input = b""
        self._consumed = 0
        self._is_readable = False
        self._has_ended = False
        self._carriage: Carriage | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        return self._carriage is None

    def start(self, received: bytes) -> None:
        """Begin to serve."""
        self._lane.reactor.watch(self.fd, self.on_client)
        if received:
            self._input = received
            self._next_request()
        elif isinstance(self.socket, TlsSocket) and self.socket.has_more:
            self._read()  # the kernel has given it already, and tells of it no more

    def on_client(self, mask: int) -> None:
        """Something about the client's socket has changed."""
        if mask & ENDED:
            self._has_ended = True
        if mask & BROKEN:
            self.abort()
        elif self._carriage is None:
            if mask & READABLE:
                self._read()
        else:
            if mask & READABLE:
                self._is_readable = True
            if mask & WRITABLE:
                self._carriage.on_client_writable()

    def _read(self) -> None:
        self._is_readable = False
        try:
            received = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()
            return
        # Edge-triggered: an end that came with these bytes is not told again.
        self._is_readable = self._has_ended or len(received) == READ_BYTES
        self._input = received
        self._next_request()

    def _next_request(self) -> None:
        """Carry the request at the start of `_input` to a target, or leave the lane."""
        tools, received = self._lane.tools, self._input
        end = received.find(b"\r\n\r\n")
        if end < 0 or end + 4 > tools.limits.head_bytes_max or self._is_trusted:
            self._leave()
            return
        request = tools.reader.read_request(received[:end])
        if request is None or request.length > BODY_BYTES_MAX or len(received) < end + 4 + request.length:
            self._leave()
            return
        found = tools.traffic.find(request.host, request.path)
        if found is None:
            self._leave()
            return
        if found[0].to_https and not isinstance(self.socket, TlsSocket):
            tools.traffic.not_sent(found[0])
            self._leave()
            return
        wire = tools.traffic.pool.take_watched(found[1])
        if wire is not None and request.length and not wire.is_quiet():
            # A request that may not be sent twice deserves the look.
            tools.traffic.pool.discard(wire)
            wire = None
        if wire is None:
            tools.traffic.not_sent(found[0])
            self._leave()
            return
        if not request.request_id:
            request.request_id = tools.traffic.fresh_request_id()
        self._consumed = end + 4 + request.length
        self._carriage = carriage = Carriage(tools, self, request, *found, wire)
        carriage.start(self._forwarded, received[end + 4 : self._consumed])

    def _leave(self, handover: Handover | None = None) -> None:
        """Have the next request served the long way."""
        self._lane.forget(self)
        self._lane.give_way(self.socket, self.peer, self._input, handover)

    # ------------------------------------------------------------------ from the carriage

    def answered(self, *, is_last: bool) -> None:
        """Go on with the next request, or end the connection."""
        self._carriage = None
        self._since = self._lane.reactor.now
        self._input = self._input[self._consumed :]
        if is_last:
            if self._input or self._is_readable:
                # Unread bytes would turn the close into a reset, which may overtake the answer.
                self._lane.forget(self)
                self._lane.linger(self.socket)
            else:
                self.close()
        elif self._input:
            self._next_request()
        elif self._is_readable:
            self._read()

    def given_up(self, handover: Handover) -> None:
        """The request is finished elsewhere."""
        self._carriage = None
        self._leave(handover)

    def cut_off(self) -> None:
        """Only a reset tells the client that its answer is not whole."""
        self._carriage = None
        self.abort()

    # ------------------------------------------------------------------ the end

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if self._carriage is not None:
            self._carriage.expire(now)
        elif now - self._since > self._lane.tools.limits.idle_timeout_s:
            self.close()

    def close(self) -> None:
        """End an idle connection."""
        self.socket.close()
        self._lane.connections.pop(self.fd, None)
        self._lane.reactor.closed(self.fd)

    def abort(self) -> None:
        """End the connection visibly, with whatever is under way."""
        if self._carriage is not None:
            self._carriage.drop()
        self._lane.forget(self)
        reset_socket(self.socket)
