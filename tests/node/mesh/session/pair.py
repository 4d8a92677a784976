"""Two sessions and the bytes between them, with users that keep what they get."""

from dataclasses import dataclass, field

from node.mesh.session import (
    Accepted,
    Arrived,
    Broken,
    Closed,
    Consumed,
    Effect,
    Ended,
    Event,
    Limits,
    Open,
    Opened,
    Priority,
    Received,
    Session,
    Stopped,
    StreamId,
    Tick,
    Writable,
    Write,
)
from node.mesh.session.words import Hello
from orca.model.units import Instant

TINY = Limits(streams_max=4, urgent_max=2, opens_per_s=1000, stream_bytes=7, connection_bytes=11, queue_bytes=8)


@dataclass
class Half:
    """What one user has of a stream."""

    subject: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    unread: int = 0
    is_ended: bool = False
    is_stopped: bool = False
    broken: str = ""


class End:
    """One session, its users, and what it has put on the wire."""

    def __init__(self, *, is_dialler: bool, limits: Limits, hello: Hello | None = None, now: Instant) -> None:
        greeting = hello or limits.hello(b"a" if is_dialler else b"b")
        self.session = Session(is_dialler=is_dialler, now=now, hello=greeting, limits=limits)
        self.now = now
        self.wire = bytearray()
        self.streams: dict[StreamId, Half] = {}
        self.effects: list[Effect] = []
        self.closed: Closed | None = None

    def do(self, event: Event) -> list[Effect]:
        effects = self.session.step(event, self.now)
        self.effects += effects
        for effect in effects:
            match effect:
                case Write(data=data):
                    self.wire += data
                case Opened(stream=stream):
                    self.streams[stream] = Half()
                case Accepted(stream=stream, subject=subject):
                    assert stream not in self.streams, "an id is used once"
                    self.streams[stream] = Half(subject=subject)
                case Arrived(stream=stream, data=data):
                    half = self.streams[stream]
                    assert not half.is_ended, "nothing comes after the end"
                    half.received += data
                    half.unread += len(data)
                case Ended(stream=stream):
                    self.streams[stream].is_ended = True
                case Stopped(stream=stream):
                    self.streams[stream].is_stopped = True
                case Broken(stream=stream, message=message):
                    self.streams[stream].broken = message
                    self.streams[stream].unread = 0
                case Closed():
                    assert self.closed is None, "it closes once"
                    self.closed = effect
                case _:
                    pass
        self.session.check_invariants()
        return effects

    def open(self, priority: Priority = Priority.INTERACTIVE, subject: bytes = b"") -> StreamId | None:
        answer = self.do(Open(purpose="p", subject=subject, priority=priority))[0]
        return answer.stream if isinstance(answer, Opened) else None

    def consume(self, stream: StreamId, count: int) -> None:
        half = self.streams[stream]
        half.unread -= count
        self.do(Consumed(stream=stream, count=count))


class Pair:
    """`a` dialled."""

    def __init__(self, limits: Limits = Limits(), *, hello_of_b: Hello | None = None) -> None:
        start = Instant(0.0)
        self.a = End(is_dialler=True, limits=limits, now=start)
        self.b = End(is_dialler=False, limits=limits, hello=hello_of_b, now=start)

    @property
    def ends(self) -> tuple[End, End]:
        return self.a, self.b

    def pass_time(self, seconds: float) -> None:
        for end in self.ends:
            end.now = Instant(end.now + seconds)
            end.do(Tick())

    def deliver(self, sender: End, count: int | None = None) -> None:
        receiver = self.b if sender is self.a else self.a
        data = bytes(sender.wire[:count])
        del sender.wire[:count]
        if data:
            receiver.do(Received(data=data))

    def settle(self, *, is_read: bool = True) -> None:
        """Until neither has anything to say; users read all that comes, if they do."""
        for _ in range(100_000):
            is_quiet = True
            for end in self.ends:
                if end.session.has_output:
                    end.do(Writable(bytes_max=1 << 16))
                if end.wire:
                    is_quiet = False
                    self.deliver(end)
                if is_read:
                    for stream, half in end.streams.items():
                        if half.unread:
                            end.consume(stream, half.unread)
            if is_quiet and not any(end.session.has_output for end in self.ends):
                return
        raise AssertionError("the two never stop talking")
