"""Gossip on trio: one UDP socket, one TCP listener on the same port, one timer.

Every event is stepped where it arises, in the trio thread, and its effects are performed
before anything else happens. News goes out through a plain function that must return at
once: whoever wants to wait, queues. A datagram that the kernel does not take at once is
dropped and counted, because a protocol that answers within half a second must not wait.

How late its own timer wakes is measured: a loop that stalls makes this node the slow
member, so the machine is told (Lifeguard's local health).
"""

import errno
import math
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Final, Protocol

import trio

from gossip.effects import IoEffect, OpenStream, ReplyStream, SendDatagram
from gossip.events import (
    DatagramReceived,
    DropCounted,
    IoEvent,
    StallNoticed,
    StreamFailed,
    StreamReceived,
    StreamReplied,
    Tick,
)
from gossip.messages import Address, StreamMessage
from orca.errors import AddressInUseError, InvalidConfigError, NodeUnreachableError
from orca.model.units import Instant
from orca.sources import Clock

DATAGRAM_BYTES_MAX: Final = 65_536
DATAGRAMS_PER_TURN: Final = 64
"""Read at most so many before others run: a flood must not starve the timer."""
STREAMS_MAX: Final = 128
"""Connections served at once; more are closed at the door."""
STREAM_TIMEOUT_S: Final = 10.0
EXCHANGES_MAX: Final = 64
STALL_S: Final = 0.1
"""A timer this late is a stalled loop: a fifth of the shortest probe timeout."""
RECEIVE_BYTES: Final = 64 * 1024
_SOCKET_BUFFER_BYTES: Final = 2 * 2**20
_PORT_TRIES: Final = 20
_UNSPECIFIED: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
_TRY_LATER: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})


class StreamInput(Protocol):
    """Collects the bytes of one stream until they are a message; `gossip.codec.streams` has it."""

    def feeding(self, data: bytes) -> Generator[bool, bytes, StreamMessage | None]:
        """The message when it is whole, in turns of a few milliseconds; yields after each of them.

        Raises ValueError with a `cause` when it never will be whole.
        """
        ...


class Machine(Protocol):
    """What this driver runs: `gossip.machine.Gossip`, or a part of it in tests."""

    def step(self, event: IoEvent, now: Instant) -> Sequence[object]:
        """Effects, in the order in which they are to be performed."""
        ...

    def deadline(self) -> Instant | None:
        """When it next wants a Tick."""
        ...

    def stream_input(self) -> StreamInput:
        """For one incoming stream or answer."""
        ...


class GossipDriver:
    """The trio shell of a gossip machine.

    `publish` gets every effect that is not IO, in order. `host` is an address of this
    computer, IPv4 or IPv6, or the unspecified one.
    """

    def __init__(self, machine: Machine, clock: Clock, *, publish: Callable[[object], None]) -> None:
        self.machine = machine
        self.datagrams_sent = 0
        self.datagrams_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self._clock = clock
        self._publish = publish
        self._socket: socket.socket | None = None
        self._host = ""
        self._nursery: trio.Nursery | None = None
        self._replies: dict[int, tuple[bytes, trio.Event]] = {}
        self._next_stream = 0
        self._exchanges = 0
        self._work = trio.Lock()
        self._timer = trio.CancelScope()
        self._due_at = Instant(math.inf)

    async def run(
        self, sockets: "GossipSockets", *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        with sockets.datagrams:
            self._socket = sockets.datagrams
            self._host = sockets.address.host
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._receive)
                nursery.start_soon(self._keep_time)
                await nursery.start(trio.serve_listeners, self._serve, [sockets.listener])
                task_status.started()

    def tell(self, event: object) -> None:
        """Step an event of the node itself; returns when its effects are performed."""
        self._step(event)
        self._set_timer()

    def _step(self, event: object) -> None:
        for effect in self.machine.step(event, self._clock.now()):  # type: ignore[arg-type]
            self._perform(effect)

    def _perform(self, effect: object) -> None:
        match effect:
            case SendDatagram():
                self._send(effect)
            case OpenStream():
                self._open(effect)
            case ReplyStream():
                waiting = self._replies.get(effect.stream)
                if waiting is not None:
                    self._replies[effect.stream] = (effect.data, waiting[1])
                    waiting[1].set()
            case _:
                self._publish(effect)

    # ------------------------------------------------------------------ datagrams

    def _send(self, effect: SendDatagram) -> None:
        assert self._socket is not None, "the driver does not run"
        try:
            # Not through trio, whose call may wait: a packet that must wait is worth nothing.
            sent = self._socket.sendto(effect.data, effect.to)
        except OSError as error:
            cause = "send_buffer_full" if error.errno in _TRY_LATER else "send_failed"
            self.machine.step(DropCounted(cause=cause), self._clock.now())
            return
        self.datagrams_sent += 1
        self.bytes_sent += sent

    async def _receive(self) -> None:
        assert self._socket is not None, "the driver does not run"
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            for _ in range(DATAGRAMS_PER_TURN):
                try:
                    data, source = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an ICMP error of an earlier packet; the packet itself was counted by its probe
                self.datagrams_received += 1
                self.bytes_received += len(data)
                self._step(DatagramReceived(source=_plain(source), data=data))
            self._set_timer()

    # ----------------------------------------------------------------------- time

    async def _keep_time(self) -> None:
        while True:
            self._timer = trio.CancelScope()
            self._set_timer()
            with self._timer:
                await trio.sleep_forever()
            late_s = self._clock.now() - self._due_at
            if late_s > STALL_S:
                self._step(StallNoticed(stall_s=late_s))
            self._step(Tick())

    def _set_timer(self) -> None:
        """To the deadline of now. It is moved where it stands: a turn to set it anew would cost as much as a packet."""
        if self._timer.cancel_called:
            return  # it has gone off; how late that was must not be forgotten over what comes in first
        now = self._clock.now()
        deadline = self.machine.deadline()
        self._due_at = Instant(math.inf) if deadline is None else max(deadline, now)
        self._timer.deadline = trio.current_time() + (self._due_at - now)

    # -------------------------------------------------------------------- streams

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection: one message, one answer. Whatever happens stays here."""
        number = self._next_stream
        self._next_stream += 1
        async with stream:
            if len(self._replies) >= STREAMS_MAX:
                self._step(DropCounted(cause="too_many_streams"))
                return
            answered = trio.Event()
            self._replies[number] = (b"", answered)
            try:
                with trio.move_on_after(STREAM_TIMEOUT_S):
                    message = await self._read(stream)
                    if message is None:
                        return
                    source = _plain(stream.socket.getpeername())
                    self._step(StreamReceived(stream=number, source=source, message=message))
                    self._set_timer()
                    await answered.wait()
                    data = self._replies[number][0]
                    if data:
                        await stream.send_all(data)
                        self.bytes_sent += len(data)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                self._step(DropCounted(cause="stream_broken"))
            finally:
                self._replies.pop(number, None)

    async def _read(self, stream: trio.SocketStream) -> StreamMessage | None:
        """The message that comes, None when the stream ends or what comes is none; that is counted."""
        collected = self.machine.stream_input()
        while True:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                return None
            self.bytes_received += len(data)
            try:
                message = await self._fed(collected.feeding(bytes(data)))
            except ValueError as error:
                self._step(DropCounted(cause=getattr(error, "cause", "bad_stream")))
                return None
            if message is not None:
                return message

    async def _fed(self, turns: Generator[bool, bytes, StreamMessage | None]) -> StreamMessage | None:
        """What `turns` end with. Only the first turn of each stream is free: of long works one goes on at a time."""
        try:
            next(turns)
            async with self._work:
                while True:
                    await trio.lowlevel.checkpoint()
                    next(turns)
        except StopIteration as end:
            found: StreamMessage | None = end.value
            return found

    def _open(self, effect: OpenStream) -> None:
        if self._nursery is None or self._exchanges >= EXCHANGES_MAX:
            self._step(StreamFailed(exchange=effect.exchange, reason="too many streams are open already"))
            return
        self._exchanges += 1
        self._nursery.start_soon(self._exchange, effect)

    async def _exchange(self, effect: OpenStream) -> None:
        reason = f"no answer in {effect.timeout_s:g} s"
        reply: StreamMessage | None = None
        try:
            with trio.move_on_after(effect.timeout_s):
                reply = await self._ask(effect)
                reason = "the stream ended without an answer that can be read" if effect.wants_reply else ""
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = str(error.__cause__ or error) or type(error).__name__
        finally:
            self._exchanges -= 1
        if reply is not None:
            self._step(StreamReplied(exchange=effect.exchange, message=reply))
        elif reason:
            self._step(StreamFailed(exchange=effect.exchange, reason=reason))
        self._set_timer()

    async def _ask(self, effect: OpenStream) -> StreamMessage | None:
        family = trio.socket.AF_INET6 if ":" in effect.to.host else trio.socket.AF_INET
        with trio.socket.socket(family, trio.socket.SOCK_STREAM) as sock:
            if self._host not in _UNSPECIFIED:
                await sock.bind((self._host, 0))  # peers and firewalls know us by the address of our packets
            await sock.connect(effect.to)
            stream = trio.SocketStream(sock)
            await stream.send_all(effect.data)
            self.bytes_sent += len(effect.data)
            if not effect.wants_reply:
                return None
            return await self._read(stream)


class GossipSockets:
    """The two sockets of a member, bound to the same port."""

    def __init__(self, datagrams: socket.socket, listener: trio.SocketListener, address: Address) -> None:
        self.datagrams = datagrams
        self.listener = listener
        self.address = address


async def open_sockets(host: str, port: int) -> GossipSockets:
    """Bind UDP and TCP to `host` and `port`; port 0 takes one that is free for both.

    Raises AddressInUseError, InvalidConfigError for an address that is not of this computer.
    """
    for _ in range(_PORT_TRIES if port == 0 else 1):
        try:
            return await _bind(host, port)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidConfigError(f"gossip cannot bind {host}: it is no address of this computer") from error
            if error.errno != errno.EADDRINUSE:
                raise AddressInUseError(f"gossip cannot bind {host}:{port}: {error.strerror}") from error
            failure = error
    raise AddressInUseError(f"gossip cannot bind {host}:{port} for UDP and TCP: the port is taken") from failure


async def _bind(host: str, port: int) -> GossipSockets:
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    tcp = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        tcp.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        await tcp.bind((host, port))
        bound = int(tcp.getsockname()[1])
        tcp.listen(128)
        udp = socket.socket(family, socket.SOCK_DGRAM)
    except BaseException:
        tcp.close()
        raise
    try:
        udp.setblocking(False)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
        udp.bind((host, bound))
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return GossipSockets(udp, trio.SocketListener(tcp), Address(host, bound))


async def resolve_seed(text: str, default_port: int) -> list[Address]:
    """The addresses that a person means by `host`, `host:port` or `[v6]:port`; names are looked up.

    Raises NodeUnreachableError for a name that nobody knows, InvalidConfigError for what is no address.
    """
    host, port = split_host_port(text, default_port)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
    except OSError as error:
        raise NodeUnreachableError(f"{host!r} is not known to the resolver: {error.strerror or error}") from error
    addresses = [Address(str(entry[4][0]), port) for entry in found]
    return list(dict.fromkeys(addresses))


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address. Raises InvalidConfigError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port_text = rest.removeprefix(":")
        is_right = bool(bracket) and (not rest or rest.startswith(":"))
    elif text.count(":") > 1:
        host, port_text, is_right = text, "", True
    else:
        host, colon, port_text = text.partition(":")
        is_right = bool(port_text) or not colon
    port = int(port_text) if port_text.isdecimal() else default_port
    if not (is_right and host and (port_text.isdecimal() or not port_text) and 0 < port <= 65535):
        raise InvalidConfigError(f"{text!r} is no address of a peer; write HOST, HOST:PORT or [IPV6]:PORT")
    return host, port


def _plain(name: tuple[object, ...]) -> Address:
    """A socket name without scope and flow; an IPv4 address that came mapped into IPv6 as IPv4."""
    host = str(name[0]).partition("%")[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, int(str(name[1])))


__all__ = ["GossipDriver", "GossipSockets", "IoEffect", "Machine", "open_sockets", "resolve_seed", "split_host_port"]
