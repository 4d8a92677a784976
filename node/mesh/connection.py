"""One connection to a peer on trio: runs a session over TLS, and a handler for each stream that the peer opens."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, assert_never

import structlog
import trio

from node.mesh.purpose import Purpose
from node.mesh.session import (
    Accepted,
    Arrived,
    Broken,
    Closed,
    Drain,
    Draining,
    Effect,
    Ended,
    Established,
    Event,
    Leave,
    Limits,
    Open,
    Opened,
    OpenRefused,
    Received,
    RoomMade,
    RoundTrip,
    Send,
    Session,
    Stopped,
    StreamId,
    Tick,
    Writable,
    Write,
)
from node.mesh.streams import MeshStream, error_of
from node.mesh.tls import TlsPipe
from orca.errors import NodeUnreachableError, OrcaError
from orca.model.ids import NodeId
from orca.model.units import Instant

_log = structlog.get_logger("orca.mesh")
WRITE_BYTES: Final = 128 * 1024
"""Encrypted at a time: about 0.2 ms, and what is urgent waits no longer for it."""
LARGE_BYTES: Final = 16 * 1024
"""What is shorter is with the kernel at once: to wait for that would cost a heartbeat as much as sending it."""
URGENT_QUEUE_BYTES: Final = 64 * 1024
"""Of Raft messages in the session; the rest waits in its link, where the oldest can be dropped."""
LINGER_S: Final = 1.0
"""For a peer to read why it was left."""

Serve = Callable[[NodeId, MeshStream, bytes], Awaitable[None]]


class UrgentSource(Protocol):
    """Where Raft messages wait."""

    def take(self) -> bytes:
        """Frames that waited; b"" for none."""
        ...


class Watcher(Protocol):
    """Who is told what becomes of a connection."""

    def server_of(self, purpose: str) -> tuple[Purpose, Serve] | None:
        """What serves streams of `purpose` here."""
        ...

    def established(self, connection: "Connection") -> None:
        """Both have greeted."""
        ...

    def measured(self, connection: "Connection") -> None:
        """The peer answered a ping."""
        ...

    def retired(self, connection: "Connection") -> None:
        """No more streams can be opened on it."""
        ...


def now() -> Instant:
    """Trio's clock."""
    return Instant(trio.current_time())


class Connection:
    """Its session, its wire and its streams. `certificate` is what the peer proved itself with."""

    def __init__(
        self, pipe: TlsPipe, peer: NodeId, boot: bytes, limits: Limits, *, is_dialler: bool, watcher: Watcher
    ) -> None:
        self.peer = peer
        self.is_dialler = is_dialler
        self.certificate = pipe.certificate or b""
        self.boot = b""
        """Which life of the peer's process it is."""
        self.version = 0
        self.settled = trio.Event()
        """Both have greeted, or it is over."""
        self.error: OrcaError | None = None
        """Why it is over."""
        self.is_left = False
        """The peer ended it."""
        self.began_at = now()
        self.session = Session(is_dialler=is_dialler, now=self.began_at, hello=limits.hello(boot), limits=limits)
        self.queue_bytes = limits.queue_bytes
        self._pipe = pipe
        self._watcher = watcher
        self._streams: dict[StreamId, MeshStream] = {}
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._is_writer_idle = False
        self._urgent: tuple[UrgentSource, MeshStream] | None = None
        self._last_opened: StreamId | OpenRefused = OpenRefused(code="", message="")

    @property
    def is_usable(self) -> bool:
        """Streams can be opened."""
        return self.session.is_established and not self.session.is_draining

    # ------------------------------------------------------------------ for its users

    def open(self, purpose: Purpose, subject: bytes = b"") -> MeshStream:
        """Begin a stream; raises NotAvailableError when the peer takes no more."""
        self.post(Open(purpose=purpose.value, subject=subject, priority=purpose.priority))
        answer = self._last_opened
        if isinstance(answer, OpenRefused):
            raise error_of(answer.code, f"{self.peer}: {answer.message}")
        return self._add(answer)

    def _add(self, number: StreamId) -> MeshStream:
        stream = self._streams[number] = MeshStream(number, self)
        return stream

    def carry(self, source: UrgentSource) -> MeshStream:
        """From now on send what waits in `source`; the stream that it goes on."""
        stream = self.open(Purpose.RAFT)
        self._urgent = (source, stream)
        self.wake()
        return stream

    def stop_carrying(self, stream: MeshStream) -> None:
        """Send nothing more on `stream`."""
        if self._urgent is not None and self._urgent[1] is stream:
            self._urgent = None
        stream.release()

    def post(self, event: Event) -> None:
        """Tell the session, and do what it wants."""
        for effect in self.session.step(event, now()):
            self._perform(effect)
        if self.session.has_output:
            self.wake()

    def wake(self) -> None:
        """There is something to send; what comes until the writer's turn goes with it."""
        if self._is_writer_idle:
            self._wake.set()

    def send(self, stream: StreamId, data: bytes) -> None:
        """Send, at once if nothing is on its way: a short message need not wait for another task's turn."""
        self.session.step(Send(stream=stream, data=data), now())
        self.hurry()

    def hurry(self) -> None:
        """Send what is urgent now, unless something is on its way: then it goes first of all that follows."""
        if self._is_writer_idle and not self._pipe.has_unsent:
            try:
                self._produce()
            except OrcaError as error:
                self.lose(error)
            if self._pipe.has_unsent or self.session.has_output:
                self.wake()

    def queued(self, stream: StreamId) -> int:
        """Bytes that wait on `stream`."""
        return self.session.queued(stream)

    def forget(self, stream: StreamId) -> None:
        """Nobody uses `stream` any more."""
        self._streams.pop(stream, None)

    def drain(self, message: str) -> None:
        """Open no more streams, and close when the last has ended."""
        self.post(Drain(message=message))

    def leave(self, error: OrcaError) -> None:
        """Close now and tell the peer why."""
        self.post(Leave(code=error.code, message=error.message))

    def lose(self, error: OrcaError) -> None:
        """The wire is gone; what the peer said of this node's certificate is kept as the reason."""
        self.post(Leave(code=error.code, message=error.message))

    def tick(self, at: Instant) -> None:
        """Time has passed."""
        if self.session.deadline() <= at:
            self.post(Tick())

    # ------------------------------------------------------------------ effects

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Write(data=data):
                self._pipe.send(data)
            case Accepted():
                self._accept(effect)
            case Opened(stream=number):
                self._last_opened = number
            case OpenRefused():
                self._last_opened = effect
            case Established() | RoundTrip() | Draining() | Closed():
                self._change(effect)
            case _:
                # Its user may have let go of it while what came before was done.
                if (stream := self._streams.get(effect.stream)) is not None:
                    self._tell(stream, effect)

    def _tell(self, stream: MeshStream, effect: Arrived | RoomMade | Ended | Broken | Stopped) -> None:
        match effect:
            case Arrived(data=data):
                stream.arrived(data)
            case RoomMade():
                stream.room_made()
            case Ended():
                stream.finished()
            case Broken(code=code, message=message):
                stream.broke(error_of(code, message))
            case Stopped(code=code, message=message):
                stream.stopped(error_of(code, message))
            case _:
                assert_never(effect)

    def _change(self, effect: Established | RoundTrip | Draining | Closed) -> None:
        """What concerns all of the connection."""
        match effect:
            case Established(version=version, boot=boot):
                self.version, self.boot = version, boot
                self._watcher.established(self)
                self.settled.set()
            case RoundTrip():
                self._watcher.measured(self)
            case Draining():
                self._end_urgent()
                self._watcher.retired(self)
            case Closed(code=code, message=message, is_ours=is_ours):
                self.error, self.is_left = error_of(code, message), not is_ours
                self._urgent = None
                self.settled.set()
                self._watcher.retired(self)
                if self._nursery is not None:
                    self._nursery.cancel_scope.cancel()
            case _:
                assert_never(effect)

    def _end_urgent(self) -> None:
        """Raft messages go elsewhere from now on."""
        if self._urgent is not None:
            _, stream = self._urgent
            self._urgent = None
            stream.release()

    def _accept(self, opened: Accepted) -> None:
        stream = self._add(opened.stream)
        found = self._watcher.server_of(opened.purpose)
        if found is None or found[0].priority != opened.priority or self._nursery is None:
            stream.abort(error_of("not_available", f"this node does not serve {opened.purpose!r}"))
            return
        self._nursery.start_soon(self._serve, found[1], stream, opened.subject)

    async def _serve(self, serve: Serve, stream: MeshStream, subject: bytes) -> None:
        """One stream of the peer; nothing that happens on it reaches beyond it."""
        try:
            await serve(self.peer, stream, subject)
        except OrcaError as error:
            _log.debug("a stream of the mesh ended", peer=self.peer, reason=error.message)
            stream.abort(error)
        except (OSError, trio.BrokenResourceError) as error:
            _log.debug("a stream of the mesh ended", peer=self.peer, reason=str(error))
            stream.abort(NodeUnreachableError("the handler lost what it talked to"))
        except BaseException:
            # An end would say that all was sent: what was cut short must not look whole.
            stream.abort(NodeUnreachableError("the peer is stopping"))
            raise
        finally:
            stream.release()

    # ------------------------------------------------------------------ the wire

    async def run(self) -> None:
        """Carry bytes until the session is closed; never raises for what a peer or the network does."""
        try:
            if not self.session.is_closed:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
        finally:
            self._nursery = None
            if not self.session.is_closed:
                self.leave(NodeUnreachableError("the peer is stopping"))
            with trio.move_on_after(LINGER_S, shield=True):
                await self._say_farewell()
            self._pipe.close()

    async def _read(self) -> None:
        try:
            while (data := self._pipe.receive()) is not None:
                if data:
                    self.post(Received(data=data))
                await trio.lowlevel.wait_readable(self._pipe.socket)
            self.lose(NodeUnreachableError("the peer closed the connection"))
        except OrcaError as error:
            self.lose(error)

    async def _write(self) -> None:
        try:
            while not self.session.is_closed:
                if self._pipe.has_unsent:
                    await trio.lowlevel.wait_writable(self._pipe.socket)
                    self._pipe.flush()
                elif (size := self._produce()) is not None:
                    if size >= LARGE_BYTES or self.session.has_output:
                        # Not before the kernel has sent most of it: what becomes urgent meanwhile goes first.
                        await trio.lowlevel.wait_writable(self._pipe.socket)
                else:
                    self._is_writer_idle, self._wake = True, trio.Event()
                    await self._wake.wait()
                    self._is_writer_idle = False
        except OrcaError as error:
            self.lose(error)

    def _produce(self) -> int | None:
        """Put the next piece on the wire; how many bytes it has, None without any."""
        if self._urgent is not None:
            source, stream = self._urgent
            if self.session.queued(stream.number) < URGENT_QUEUE_BYTES and (data := source.take()):
                self.session.step(Send(stream=stream.number, data=data), now())
        if not self.session.has_output:
            return None
        size = 0
        for effect in self.session.step(Writable(bytes_max=WRITE_BYTES), now()):
            size += len(effect.data) if isinstance(effect, Write) else 0
            self._perform(effect)
        return size

    async def _say_farewell(self) -> None:
        """Let the peer read what was said last before the connection goes."""
        try:
            await self._pipe.drain()
            while self.session.has_output:
                self._produce()
                await self._pipe.drain()
            self._pipe.shut_down()
            while self._pipe.receive() is not None:
                await trio.lowlevel.wait_readable(self._pipe.socket)
        except OrcaError:
            return  # it is gone already


__all__: Final = ["Connection", "Serve", "UrgentSource", "Watcher", "now"]
