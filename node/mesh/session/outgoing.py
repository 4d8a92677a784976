"""What goes to the peer next: control frames, then streams in order of priority, fairly."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from node.mesh.session.framing import DATA_BYTES_MAX, HEAD, Kind, Priority
from node.mesh.session.streams import Stream

URGENT_RUN: Final = 16
"""After so many urgent pieces in a row one of another stream goes, so that nothing starves."""
INTERACTIVE_RUN: Final = 4
"""The same between interactive and bulk."""


class Outgoing:
    """Three lines of streams that have something to send and may, and the frames that go before all."""

    def __init__(self, queue_bytes: int) -> None:
        self.credit = 0
        """Bytes that the peer takes at present on all streams but the urgent."""
        self.is_open = False
        """The peer has greeted: streams may send."""
        self.answers_bytes = 0
        """Of control frames that the peer provoked, since the last were taken."""
        self._queue_bytes = queue_bytes
        self._control: list[bytes] = []
        self._lines: tuple[deque[Stream], deque[Stream], deque[Stream]] = (deque(), deque(), deque())
        self._urgent_run = 0
        self._interactive_run = 0

    @property
    def has_control(self) -> bool:
        """A control frame waits."""
        return bool(self._control)

    @property
    def has_output(self) -> bool:
        """`collect` would find something."""
        urgent, interactive, bulk = self._lines
        return bool(self._control or urgent or (self.credit > 0 and (interactive or bulk)))

    def say(self, frame: bytes) -> None:
        """A control frame of our own will."""
        if frame:
            self._control.append(frame)

    def answer(self, frame: bytes) -> None:
        """A control frame that the peer provoked."""
        self.answers_bytes += len(frame)
        self._control.append(frame)

    def queue(self, stream: Stream, data: bytes) -> None:
        """Put `data` behind what waits on `stream`."""
        stream.queue.append(memoryview(data))
        stream.queued += len(data)
        self.line_up(stream)

    def line_up(self, stream: Stream) -> None:
        """`stream` may have become able to send."""
        if not stream.is_ready and stream.queue and stream.credit > 0:
            stream.is_ready = True
            self._lines[stream.priority].append(stream)

    def clear(self, stream: Stream) -> None:
        """Nothing more of `stream` is sent."""
        stream.queue.clear()
        stream.queued = 0
        if stream.is_ready:
            stream.is_ready = False
            self._lines[stream.priority].remove(stream)

    def collect_control(self, parts: list[bytes | memoryview]) -> None:
        """Take the control frames."""
        parts += self._control
        self._control.clear()
        self.answers_bytes = 0

    def collect(self, parts: list[bytes | memoryview], bytes_max: int) -> Iterable[Stream]:
        """Take frames of `bytes_max` bytes or a little more; the streams that have nothing left, or room again."""
        self.collect_control(parts)
        left = bytes_max
        while left > 0 and (stream := self._next()) is not None:
            queued = stream.queued
            left -= self._cut(stream, parts, min(left, DATA_BYTES_MAX))
            if not stream.queued or queued * 2 > self._queue_bytes >= stream.queued * 2:
                yield stream

    def _next(self) -> Stream | None:
        urgent, interactive, bulk = self._lines
        may_others = self.credit > 0 and bool(interactive or bulk)
        if urgent and not (may_others and self._urgent_run >= URGENT_RUN):
            self._urgent_run += 1
            return urgent.popleft()
        if not may_others:
            return None
        self._urgent_run = 0
        if interactive and not (bulk and self._interactive_run >= INTERACTIVE_RUN):
            self._interactive_run += 1
            return interactive.popleft()
        self._interactive_run = 0
        return bulk.popleft()

    def _cut(self, stream: Stream, parts: list[bytes | memoryview], bytes_max: int) -> int:
        """One DATA frame of `stream`, which goes to the end of its line if it has more; its size."""
        size = min(bytes_max, stream.queued, stream.credit)
        if stream.priority is not Priority.URGENT:
            size = min(size, self.credit)
            self.credit -= size
        stream.credit -= size
        stream.queued -= size
        parts.append(HEAD.pack(Kind.DATA, stream.priority, stream.id, size))
        left = size
        while left:
            first = stream.queue[0]
            if len(first) <= left:
                parts.append(stream.queue.popleft())
                left -= len(first)
            else:
                parts.append(first[:left])
                stream.queue[0] = first[left:]
                left = 0
        stream.is_ready = False
        self.line_up(stream)
        return size + HEAD.size

    def check_invariants(self, streams: Iterable[Stream]) -> None:
        """Raise AssertionError when the lines do not hold exactly those that can send."""
        assert self.credit >= 0
        lined = [stream for line in self._lines for stream in line]
        known = list(streams)
        for stream in known:
            assert stream.queued == sum(map(len, stream.queue)), f"stream {stream.id}"
            assert stream.is_ready == (stream.queued > 0 and stream.credit > 0), f"stream {stream.id}"
            assert stream.is_ready == any(one is stream for one in lined), f"stream {stream.id}"
        assert len(lined) == sum(stream.is_ready for stream in known)


__all__: Final = ["Outgoing"]
