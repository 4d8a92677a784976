"""One TCP connection with what it received and nobody used yet."""

import contextlib
import select
import socket
import struct
from typing import Final

import trio

from node.proxy.faults import BadHeadError, WireError
from node.proxy.heads import HeadScanner

READ_BYTES: Final = 64 * 1024
WATCH_AFTER_S: Final = 0.2
"""How long a wait lasts before it is worth looking whether the other side is still there."""

RESET_LOOK_S: Final = 1.0
"""How often a side that has unread bytes, or has ended its sending, is looked at."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_LINGER_BYTES_MAX: Final = 4 * 1024 * 1024


class Wire:
    """A connection to a client or to a target.

    Every wait has a deadline, and every failure is a `failure` of this wire's side. `buffer`
    grows only in `fill`, by at most one read, so it stays small as long as its user
    takes everything before asking for more. `has_heard` tells whether anything came
    since the flag was last cleared.

    `partner` is the other side's wire while nobody reads it: when that is reset, waiting
    here is in vain and ends with the partner's failure.
    """

    def __init__(self, stream: trio.SocketStream, failure: type[WireError], stall_timeout_s: float) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.has_heard = False
        self.partner: Wire | None = None
        self._failure = failure
        self._stall_timeout_s = stall_timeout_s

    async def fill(self, timeout_s: float | None = None) -> bool:
        """Receive some bytes into `buffer`; False at the end of the stream.

        `timeout_s` None means the stall timeout.
        """
        limit_s = self._stall_timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(limit_s):
            try:
                received = await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._failure("the connection broke while receiving") from error
            if received:
                self.has_heard = True
                self.buffer += received
            return bool(received)
        raise self._failure(f"nothing was received for {limit_s:g} s", is_timeout=True)

    async def _receive(self) -> bytes | bytearray:
        if self.partner is None:
            return await self.stream.receive_some(READ_BYTES)
        # Most answers come at once; only a long wait is worth a second task.
        with trio.move_on_after(WATCH_AFTER_S):
            return await self.stream.receive_some(READ_BYTES)
        return await self._receive_unless_left(self.partner)

    async def _receive_unless_left(self, partner: "Wire") -> bytes | bytearray:
        received: bytes | bytearray | None = None
        failure: trio.BrokenResourceError | trio.ClosedResourceError | None = None

        async def watch() -> None:
            await partner.wait_reset()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                received = await self.stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
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
            await trio.lowlevel.wait_readable(self.stream.socket)
        except trio.ClosedResourceError:
            return
        while not self.is_reset():  # noqa: ASYNC110 - unread bytes keep the socket readable, whatever follows
            await trio.sleep(RESET_LOOK_S)

    def is_reset(self) -> bool:
        """Whether the peer has reset the connection, or both sides have ended it."""
        poller = select.poll()
        poller.register(self.stream.socket.fileno(), 0)
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
        with trio.move_on_after(self._stall_timeout_s):
            try:
                await self.stream.send_all(payload)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._failure("the connection broke while sending") from error
            return
        raise self._failure(f"nothing could be sent for {self._stall_timeout_s:g} s", is_timeout=True)

    async def end_sending(self) -> None:
        """Say that nothing more comes; a connection that is broken already is no error."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_eof()

    def is_quiet(self) -> bool:
        """Whether the connection is open with nothing to read: what an idle one must be."""
        if self.buffer:
            return False
        poller = select.poll()
        poller.register(self.stream.socket.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poller.poll(0)

    def close(self) -> None:
        """Close at once; what the kernel holds is still sent."""
        self.stream.socket.close()

    def reset(self) -> None:
        """Close so that the peer sees an error, never a clean end."""
        with contextlib.suppress(OSError):
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.stream.socket.close()

    async def close_gently(self, timeout_s: float) -> None:
        """Close after the peer could read everything.

        Closing with unread input makes the kernel send a reset that destroys what the
        peer has not read yet (RFC 9112 §9.6), so we read on for a moment.
        """
        try:
            await self.end_sending()
            dropped = 0
            with trio.move_on_after(timeout_s), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while dropped < _LINGER_BYTES_MAX:
                    received = await self.stream.receive_some(READ_BYTES)
                    if not received:
                        break
                    dropped += len(received)
        finally:
            self.close()
