"""One TCP connection with what it received and nobody used yet."""

import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from node.proxy.faults import BadHeadError, WireError
from node.proxy.heads import HeadScanner
from node.proxy.tls import TlsSocket

Connected: TypeAlias = socket.socket | TlsSocket
"""A connection that does not block, in the clear or not."""
READ_BYTES: Final = 64 * 1024
WATCH_AFTER_S: Final = 0.2
"""How long a wait lasts before it is worth looking whether the other side is still there."""

RESET_LOOK_S: Final = 1.0
"""How often a side that has unread bytes, or has ended its sending, is looked at."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_LINGER_BYTES_MAX: Final = 4 * 1024 * 1024


def bare_socket(stream: trio.SocketStream) -> socket.socket:
    """The socket of `stream`, which is of no use afterwards; it does not block."""
    inner = stream.socket
    family, kind, protocol = inner.family, inner.type, inner.proto
    bare = socket.socket(family, kind, protocol, fileno=inner.detach())
    bare.setblocking(False)
    return bare


def reset_socket(connected: Connected) -> None:
    """Close so that the peer sees an error, never a clean end."""
    if isinstance(connected, TlsSocket):
        connected = connected.bare
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connected.close()


class Wire:
    """A connection to a client or to a target, on a socket that does not block.

    Every wait has a deadline, and every failure is a `failure` of this wire's side. `buffer`
    grows only in `fill`, by at most one read, so it stays small as long as its user
    takes everything before asking for more. `has_heard` tells whether anything came
    since the flag was last cleared.

    `partner` is the other side's wire while nobody reads it: when that is reset, waiting
    here is in vain and ends with the partner's failure.

    `user` is called with what epoll says while a reactor watches the wire.
    """

    def __init__(self, connected: Connected, failure: type[WireError], stall_timeout_s: float) -> None:
        self.socket = connected
        self.buffer = bytearray()
        self.has_heard = False
        self.partner: Wire | None = None
        self.user: Callable[[int], None] | None = None
        self._failure = failure
        self._stall_timeout_s = stall_timeout_s

    @property
    def scheme(self) -> str:
        """What a client wrote in front of its URL."""
        return "https" if isinstance(self.socket, TlsSocket) else "http"

    async def fill(self, timeout_s: float | None = None) -> bool:
        """Receive some bytes into `buffer`; False at the end of the stream.

        `timeout_s` None means the stall timeout.
        """
        limit_s = self._stall_timeout_s if timeout_s is None else timeout_s
        await trio.lowlevel.checkpoint_if_cancelled()
        received = self._take()
        if received is None:
            with trio.move_on_after(limit_s):
                received = await self._receive()
            if received is None:
                raise self._failure(f"nothing was received for {limit_s:g} s", is_timeout=True)
        if received:
            self.has_heard = True
            self.buffer += received
        await trio.lowlevel.cancel_shielded_checkpoint()
        return bool(received)

    def _take(self) -> bytes | None:
        """What has arrived, empty at the end of the stream; None when nothing has."""
        try:
            return self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._failure("the connection broke while receiving") from error

    async def _receive(self) -> bytes:
        if self.partner is None:
            return await self._wait_and_take()
        # Most answers come at once; only a long wait is worth a second task.
        with trio.move_on_after(WATCH_AFTER_S):
            return await self._wait_and_take()
        return await self._receive_unless_left(self.partner)

    async def _wait_and_take(self) -> bytes:
        while True:
            try:
                await trio.lowlevel.wait_readable(self.socket)
            except (trio.ClosedResourceError, OSError) as error:
                raise self._failure("the connection was closed while receiving") from error
            received = self._take()
            if received is not None:
                return received

    async def _receive_unless_left(self, partner: "Wire") -> bytes:
        received: bytes | None = None
        failure: WireError | None = None

        async def watch() -> None:
            await partner.wait_reset()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                received = await self._wait_and_take()
            except WireError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if received is None:
            raise partner.left()
        return received

    async def wait_reset(self) -> None:
        """Return when the peer has reset the connection; what it sends meanwhile stays unread.

        An end of its sending is no reset: a peer may do that and go on listening
        (RFC 9112 §9.6), and nothing but a send tells it from one that has gone.
        """
        try:
            await trio.lowlevel.wait_readable(self.socket)
        except (trio.ClosedResourceError, OSError):
            return
        while not self.is_reset():  # noqa: ASYNC110 - unread bytes keep the socket readable, whatever follows
            await trio.sleep(RESET_LOOK_S)

    def is_reset(self) -> bool:
        """Whether the peer has reset the connection, or both sides have ended it."""
        poller = select.poll()
        poller.register(self.socket.fileno(), 0)
        return bool(poller.poll(0))

    def left(self) -> WireError:
        """The failure of a peer that has reset the connection."""
        return self._failure("the connection was reset")

    async def read_head(self, scanner: HeadScanner) -> bytes:
        """The next head with its empty line, taken out of `buffer`.

        Waits without a limit of its own: the caller holds the deadline. Raises
        BadHeadError, and the wire's failure when the stream ends before.
        """
        while True:
            end = scanner.find_end(self.buffer)
            if end:
                head = bytes(self.buffer[:end])
                del self.buffer[:end]
                return head
            if not await self.fill(float("inf")):
                if self.buffer:
                    raise BadHeadError("The stream ended inside a head.")
                raise self._failure("the stream ended before a head")

    async def send(self, payload: bytes) -> None:
        """Send all of `payload`; the peer must take it within the stall timeout."""
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self._give(payload)
        if sent == len(payload):
            return
        with trio.move_on_after(self._stall_timeout_s), memoryview(payload) as whole:
            while sent < len(whole):
                try:
                    await trio.lowlevel.wait_writable(self.socket)
                except (trio.ClosedResourceError, OSError) as error:
                    raise self._failure("the connection was closed while sending") from error
                with whole[sent:] as rest:
                    sent += self._give(rest)
            return
        raise self._failure(f"nothing could be sent for {self._stall_timeout_s:g} s", is_timeout=True)

    def _give(self, payload: bytes | memoryview) -> int:
        """How much of `payload` the kernel took at once."""
        try:
            return self.socket.send(payload)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._failure("the connection broke while sending") from error

    def end_sending(self) -> None:
        """Say that nothing more comes; a connection that is broken already is no error."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def is_quiet(self) -> bool:
        """Whether the connection is open with nothing to read: what an idle one must be."""
        if self.buffer:
            return False
        poller = select.poll()
        poller.register(self.socket.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poller.poll(0)

    def close(self) -> None:
        """Close at once; what the kernel holds is still sent."""
        self._let_go()
        self.socket.close()

    def reset(self) -> None:
        """Close so that the peer sees an error, never a clean end."""
        self._let_go()
        reset_socket(self.socket)

    def _let_go(self) -> None:
        """Wake whoever waits for the socket before its number may mean another one."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)

    async def close_gently(self, timeout_s: float) -> None:
        """Close after the peer could read everything.

        Closing with unread input makes the kernel send a reset that destroys what the
        peer has not read yet (RFC 9112 §9.6), so we read on for a moment.
        """
        try:
            self.end_sending()
            dropped = 0
            with trio.move_on_after(timeout_s), contextlib.suppress(WireError):
                while dropped < _LINGER_BYTES_MAX:
                    received = await self._wait_and_take()
                    if not received:
                        break
                    dropped += len(received)
        finally:
            self.close()
