"""Two sessions against a model: whatever the users and the wire do, every stream is a pipe.

No byte is lost, duplicated or put out of order; when everybody reads, everything arrives and all
streams end, however small the windows are; what is urgent waits for no bulk.
"""

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.mesh.session import Abort, Drain, End, Priority, Release, Send, StreamId, Writable
from tests.node.mesh.session.pair import TINY, Half, Pair
from tests.node.mesh.session.pair import End as Side
from tests.node.mesh.session.test_fuzz import CASES

SIDES = st.sampled_from((0, 1))


class TwoSessions(RuleBasedStateMachine):
    """`sent` is the model: what a user put on its direction of a stream, and what it did after."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(TINY)
        self.sent: dict[tuple[int, StreamId], bytearray] = {}
        self.ended: set[tuple[int, StreamId]] = set()
        self.released: set[tuple[int, StreamId]] = set()
        self.aborted: set[StreamId] = set()
        self.counter = 0

    @initialize(window=st.integers(1, 9), connection=st.integers(1, 12))
    def begin(self, window: int, connection: int) -> None:
        self.pair = Pair(msgspec.structs.replace(TINY, stream_bytes=window, connection_bytes=connection))
        self.pair.settle()

    def side(self, number: int) -> Side:
        return self.pair.ends[number]

    def usable(self, number: int) -> list[StreamId]:
        """Streams on which that user may still act."""
        return [
            stream
            for stream, half in self.side(number).streams.items()
            if (number, stream) not in self.released and not half.broken and stream not in self.aborted
        ]

    def pick(self, number: int, data: st.DataObject) -> StreamId | None:
        usable = self.usable(number)
        return data.draw(st.sampled_from(usable)) if usable else None

    @rule(number=SIDES, priority=st.sampled_from(Priority))
    def open(self, number: int, priority: Priority) -> None:
        stream = self.side(number).open(priority)
        if stream is not None:
            self.sent[(number, stream)] = bytearray()

    @rule(number=SIDES, size=st.integers(1, 30), data=st.data())
    def send(self, number: int, size: int, data: st.DataObject) -> None:
        stream = self.pick(number, data)
        if stream is None or (number, stream) in self.ended or self.side(number).streams[stream].is_stopped:
            return
        piece = bytes((self.counter + at) % 251 for at in range(size))
        self.counter += size
        self.sent.setdefault((number, stream), bytearray()).extend(piece)
        self.side(number).do(Send(stream=stream, data=piece))

    @rule(number=SIDES, data=st.data())
    def end(self, number: int, data: st.DataObject) -> None:
        stream = self.pick(number, data)
        if stream is not None:
            self.ended.add((number, stream))
            self.side(number).do(End(stream=stream))

    @rule(number=SIDES, data=st.data())
    def release(self, number: int, data: st.DataObject) -> None:
        stream = self.pick(number, data)
        if stream is not None:
            self.released.add((number, stream))
            self.ended.add((number, stream))
            self.side(number).streams[stream].unread = 0
            self.side(number).do(Release(stream=stream))

    @rule(number=SIDES, data=st.data())
    def abort(self, number: int, data: st.DataObject) -> None:
        stream = self.pick(number, data)
        if stream is not None:
            self.aborted.add(stream)
            for end in self.pair.ends:
                if stream in end.streams:
                    end.streams[stream].unread = 0 if end is self.side(number) else end.streams[stream].unread
            self.side(number).do(Abort(stream=stream, code="internal", message="enough"))

    @rule(number=SIDES, data=st.data())
    def read(self, number: int, data: st.DataObject) -> None:
        side = self.side(number)
        unread = [stream for stream, half in side.streams.items() if half.unread]
        if unread:
            stream = data.draw(st.sampled_from(unread))
            side.consume(stream, data.draw(st.integers(1, side.streams[stream].unread)))

    @rule(number=SIDES, bytes_max=st.integers(1, 60))
    def write(self, number: int, bytes_max: int) -> None:
        self.side(number).do(Writable(bytes_max=bytes_max))

    @rule(number=SIDES, count=st.integers(1, 60))
    def deliver(self, number: int, count: int) -> None:
        self.pair.deliver(self.side(number), count)

    @precondition(lambda self: self.counter > 100)
    @rule(number=SIDES)
    def drain(self, number: int) -> None:
        self.side(number).do(Drain(message="another is kept"))

    @invariant()
    def every_stream_is_a_pipe(self) -> None:
        for number in (0, 1):
            for stream, half in self.side(number).streams.items():
                sent = self.sent.get((1 - number, stream), bytearray())
                assert sent.startswith(half.received), f"stream {stream}: {bytes(half.received)!r} of {bytes(sent)!r}"
                if half.is_ended and stream not in self.aborted:
                    assert (1 - number, stream) in self.ended
                    assert half.received == sent, f"stream {stream} ended early"

    @invariant()
    def honest_peers_never_part(self) -> None:
        for end in self.pair.ends:
            assert end.closed is None or end.closed.is_clean, end.closed

    def teardown(self) -> None:
        """When all read and finish, all arrives."""
        self.pair.settle()  # now both know of all streams
        for number in (0, 1):
            for stream in self.usable(number):
                self.side(number).do(End(stream=stream))
                self.ended.add((number, stream))
        self.pair.settle()
        for number in (0, 1):
            for stream, half in self.side(number).streams.items():
                if self.is_whole(number, stream, half):
                    assert half.received == self.sent.get((1 - number, stream), bytearray()), f"stream {stream}"
        self.every_stream_is_a_pipe()
        self.pair.pass_time(TINY.linger_s)  # who has given a stream up waits so long for the other to take the rest
        self.pair.settle()
        assert self.pair.a.session.streams == self.pair.b.session.streams == 0

    def is_whole(self, number: int, stream: StreamId, half: Half) -> bool:
        """Neither side gave the stream up before its end."""
        return not half.broken and stream not in self.aborted and (number, stream) not in self.released


TwoSessions.TestCase.settings = settings(
    max_examples=CASES // 10, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTwoSessions = TwoSessions.TestCase
