"""One stream of the mesh, as trio's users know streams."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import trio

from node.mesh.session import Abort, Consumed, End, Event, Release, StreamId
from orca.errors import OrcaError, error_classes

RECEIVE_BYTES: Final = 256 * 1024


class Carrier(Protocol):
    """The connection of a stream."""

    queue_bytes: int
    """So much may wait on a stream before its sender has to."""

    def post(self, event: Event) -> None:
        """Tell the session."""
        ...

    def send(self, stream: StreamId, data: bytes) -> None:
        """Send, at once if nothing is on its way."""
        ...

    def queued(self, stream: StreamId) -> int:
        """Bytes that wait on `stream`."""
        ...

    def forget(self, stream: StreamId) -> None:
        """Nobody uses `stream` any more."""
        ...


def error_of(code: str, message: str) -> OrcaError:
    """The error that a peer named; one that this node does not know is of the root class."""
    return error_classes().get(code, OrcaError)(message)


class MeshStream(trio.abc.HalfCloseableStream):
    """Bytes to and from one handler of a peer; one task may send while another receives.

    When it breaks, the cause of trio.BrokenResourceError is an OrcaError that says why: what the
    peer refused it with, or that the connection is gone.
    """

    def __init__(self, number: StreamId, carrier: Carrier) -> None:
        self.number = number
        self.over = trio.Event()
        """Set when nothing can be sent on it any more."""
        self._carrier = carrier
        self._arrived: deque[bytes] = deque()
        self._changed = trio.Event()
        self._room = trio.Event()
        self._since_turn = 0
        """Bytes that were sent since others had their turn."""
        self._sink: Callable[[bytes], None] | None = None
        self._sink_error: OrcaError | None = None
        self._is_finished = False
        self._is_closed = False
        self._read_error: OrcaError | None = None
        self._send_error: OrcaError | None = None

    # ------------------------------------------------------------------ what the connection tells

    def arrived(self, data: bytes) -> None:
        """Bytes came."""
        if self._sink is not None:
            self._give(data)
        else:
            self._arrived.append(data)
            self._changed.set()

    def finished(self) -> None:
        """No more will come."""
        self._is_finished = True
        self._changed.set()

    def stopped(self, error: OrcaError) -> None:
        """The peer reads no more."""
        self._send_error = error
        self._room.set()
        self.over.set()

    def broke(self, error: OrcaError) -> None:
        """Both directions are over, and what was not read is void."""
        self._read_error = error
        self._arrived.clear()
        self._changed.set()
        self.stopped(error)

    def room_made(self) -> None:
        """More can be sent."""
        self._room.set()

    # ------------------------------------------------------------------ what its user does

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand `data` over; waits while much of this stream waits already. Raises trio.BrokenResourceError."""
        self._check_sending()
        self._carrier.send(self.number, bytes(data))
        self._since_turn += len(data)
        if self._carrier.queued(self.number) > self._carrier.queue_bytes:
            self._since_turn = 0
            await self.wait_send_all_might_not_block()
        elif self._since_turn > self._carrier.queue_bytes:
            self._since_turn = 0
            await trio.lowlevel.checkpoint()
        else:
            # A turn of the loop for each piece would cost as much as sending it.
            await trio.lowlevel.checkpoint_if_cancelled()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until little enough waits."""
        await trio.lowlevel.checkpoint()
        while self._carrier.queued(self.number) > self._carrier.queue_bytes:
            self._room = trio.Event()
            await self._room.wait()
        self._check_sending()

    def _check_sending(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed here")
        if self._send_error is not None:
            raise trio.BrokenResourceError(self._send_error.message) from self._send_error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, 256 KiB at most; b"" when the peer has ended. Raises trio.BrokenResourceError."""
        if self._arrived:
            await trio.lowlevel.checkpoint()
        while not self._arrived:
            if self._is_closed:
                raise trio.ClosedResourceError("this stream was closed here")
            if self._read_error is not None:
                raise trio.BrokenResourceError(self._read_error.message) from self._read_error
            if self._is_finished:
                await trio.lowlevel.checkpoint()
                return b""
            self._changed = trio.Event()
            await self._changed.wait()
        data = self._take(max_bytes or RECEIVE_BYTES)
        self._carrier.post(Consumed(stream=self.number, count=len(data)))
        return data

    async def pour(self, sink: Callable[[bytes], None]) -> None:
        """Give `sink` what comes in the moment in which it comes, until the peer has ended.

        For what must not wait for another turn of the loop: `sink` is short, and waits for nothing.
        Raises what it raises of ours, and trio.BrokenResourceError.
        """
        self._sink = sink
        try:
            while self._arrived and self._sink_error is None:
                self._give(self._arrived.popleft())
            while self._sink_error is None and not (self._is_finished or self._is_closed or self._read_error):
                self._changed = trio.Event()
                await self._changed.wait()
        finally:
            self._sink = None
        if self._sink_error is not None:
            raise self._sink_error
        if self._read_error is not None:
            raise trio.BrokenResourceError(self._read_error.message) from self._read_error

    def _give(self, data: bytes) -> None:
        assert self._sink is not None, "there is one"
        if self._sink_error is not None:
            return  # the one who poured has not had its turn yet
        try:
            self._sink(data)
        except OrcaError as error:
            self._sink_error = error
            self._changed.set()
        else:
            self._carrier.post(Consumed(stream=self.number, count=len(data)))

    def _take(self, bytes_max: int) -> bytes:
        data = self._arrived.popleft()
        if len(data) > bytes_max:
            self._arrived.appendleft(data[bytes_max:])
            return data[:bytes_max]
        if not self._arrived or len(data) + len(self._arrived[0]) > bytes_max:
            return data
        parts, size = [data], len(data)
        while self._arrived and size + len(self._arrived[0]) <= bytes_max:
            parts.append(self._arrived.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    async def send_eof(self) -> None:
        """Nothing more is sent after what waits."""
        self._check_sending()
        self._carrier.post(End(stream=self.number))
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Be done: what waits is still sent, what still comes is dropped."""
        self.release()
        await trio.lowlevel.checkpoint()

    def release(self) -> None:
        """`aclose` without waiting."""
        if not self._is_closed:
            self._close()
            self._carrier.post(Release(stream=self.number))
            self._carrier.forget(self.number)

    def abort(self, error: OrcaError) -> None:
        """End it at once and tell the peer why."""
        if not self._is_closed:
            self._close()
            self._carrier.post(Abort(stream=self.number, code=error.code, message=error.message))
            self._carrier.forget(self.number)

    def _close(self) -> None:
        self._is_closed = True
        self._arrived.clear()
        self._changed.set()
        self._room.set()
        self.over.set()
