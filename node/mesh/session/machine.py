"""The session as a pure machine: `step` in, effects out."""

from typing import Final, assert_never

from node.mesh.limits import TokenBucket
from node.mesh.session.admission import Admission
from node.mesh.session.effects import (
    Accepted,
    Arrived,
    Broken,
    Closed,
    Draining,
    Effect,
    Ended,
    Established,
    Opened,
    OpenRefused,
    RoomMade,
    RoundTrip,
    Stopped,
    Write,
)
from node.mesh.session.events import (
    Abort,
    Consumed,
    Drain,
    End,
    Event,
    Leave,
    Open,
    Ping,
    Received,
    Release,
    Send,
    Tick,
    Writable,
)
from node.mesh.session.framing import (
    CONTROL_BYTES_MAX,
    HEAD,
    SESSION,
    STREAM_MAX,
    FrameParser,
    Kind,
    Priority,
    StreamId,
    encode,
)
from node.mesh.session.incoming import Incoming
from node.mesh.session.limits import Counters, Limits
from node.mesh.session.outgoing import Outgoing
from node.mesh.session.pulse import Pulse
from node.mesh.session.streams import Stream
from node.mesh.session.words import Hello, Opening, Reason, agree, decode_words, encode_words, reason
from orca.errors import PeerProtocolError
from orca.model.units import Instant

CREDIT_MAX: Final = 2**31 - 1
FINAL: Final = 1
"""Flag of GOAWAY: closed now, and not when all streams have ended."""


class Session:
    """One end. See the package for the rules."""

    def __init__(self, *, is_dialler: bool, now: Instant, hello: Hello, limits: Limits) -> None:
        self.counters = Counters()
        self.is_draining = False
        """No more streams begin here."""
        self.is_closed = False
        self._limits = limits
        self._hello = hello
        self._theirs: Hello | None = None
        self._parser = FrameParser()
        self._streams: dict[StreamId, Stream] = {}
        self._out = Outgoing(limits.queue_bytes)
        self._next_id = StreamId(1 if is_dialler else 2)
        self._last_theirs = StreamId(0)
        self._ours_open = 0
        self._our_opens = TokenBucket(1, 1, now)
        self._admission = Admission(limits, now)
        self._pulse = Pulse(limits, now)
        self._in = Incoming(limits)
        self._lingering: dict[StreamId, None] = {}
        self._has_peer_drained = False
        self._out.say(encode(Kind.HELLO, SESSION, encode_words(hello)))

    @property
    def round_trip_s(self) -> float | None:
        """Smoothed; None until a ping was answered."""
        return self._pulse.round_trip_s

    @property
    def is_established(self) -> bool:
        """Both have greeted, and nobody has closed."""
        return self._theirs is not None and not self.is_closed

    @property
    def has_output(self) -> bool:
        """`Writable` would give a `Write`."""
        return self._out.has_output or self._in.has_output

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self._streams)

    def queued(self, stream: StreamId) -> int:
        """Bytes that wait on `stream`."""
        found = self._streams.get(stream)
        return 0 if found is None else found.queued

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """What `event` means. Never raises for anything that a peer sends."""
        effects: list[Effect] = []
        if self.is_closed:
            self._after_the_end(event, effects)
            return effects
        match event:
            case Received(data=data):
                self._on_received(data, now, effects)
            case Writable(bytes_max=bytes_max):
                self._on_writable(bytes_max, effects)
            case Tick():
                self._on_tick(now, effects)
            case _:
                self._on_user(event, now, effects)
        if self._has_peer_drained and not self.is_closed and not self._streams and not self._out.has_control:
            self._close("not_available", "another connection is used", effects, is_ours=True, is_clean=True)
        return effects

    def _on_user(
        self,
        event: Open | Send | End | Release | Abort | Consumed | Ping | Drain | Leave,
        now: Instant,
        effects: list[Effect],
    ) -> None:
        match event:
            case Send(stream=stream, data=data):
                self._on_send(stream, data)
            case Consumed(stream=stream, count=count):
                self._on_consumed(stream, count)
            case Open():
                self._on_open(event, now, effects)
            case End(stream=stream):
                self._on_end(stream)
            case Release(stream=stream):
                self._on_release(stream, now)
            case Abort(stream=stream, code=code, message=message):
                self._on_abort(stream, code, message)
            case Ping():
                self._ping(now)
            case Drain(message=message):
                self._drain(message, effects)
            case Leave(code=code, message=message):
                self._out.say(encode(Kind.GOAWAY, SESSION, reason(code, message), FINAL))
                self._close(code, message, effects, is_ours=True)
            case _:
                assert_never(event)

    # ------------------------------------------------------------------ from the user

    def _on_open(self, event: Open, now: Instant, effects: list[Effect]) -> None:
        refusal = self._why_not_open(now)
        if refusal:
            effects.append(OpenRefused(code="not_available", message=refusal))
            return
        assert self._theirs is not None, "else it was refused"
        stream = self._add(self._next_id, event.priority, self._theirs)
        self._next_id = StreamId(self._next_id + 2)
        self._ours_open += 1
        self.counters.opened += 1
        payload = encode_words(Opening(purpose=event.purpose, subject=event.subject))
        self._out.say(encode(Kind.OPEN, stream.id, payload, event.priority))
        effects.append(Opened(stream=stream.id))

    def _why_not_open(self, now: Instant) -> str:
        if self._theirs is None:
            return "the peer has not greeted yet"
        if self.is_draining or self._next_id > STREAM_MAX:
            return "the connection is about to be closed"
        if self._ours_open >= self._theirs.streams_max:
            return f"{self._ours_open} streams to the peer are open, as many as it takes"
        if not self._our_opens.take(now):
            return f"the peer takes {self._theirs.opens_per_s} new streams a second"
        return ""

    def _add(self, number: StreamId, priority: Priority, theirs: Hello) -> Stream:
        stream = Stream(id=number, priority=priority, credit=theirs.stream_bytes, allowance=self._limits.stream_bytes)
        self._streams[number] = stream
        return stream

    def _on_send(self, number: StreamId, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.wants_end and data:
            self._out.queue(stream, data)

    def _on_end(self, number: StreamId) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.wants_end:
            stream.wants_end = True
            if not stream.queue:
                self._out.say(self._finish_sending(stream))
                self._tidy(stream)

    def _on_release(self, number: StreamId, now: Instant) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.is_released:
            return
        stream.is_released = True
        self._in.drop(stream)
        stream.wants_end = True
        if stream.queue:
            stream.linger_until = Instant(now + self._limits.linger_s)
            self._lingering[number] = None
        else:
            self._out.say(self._finish_sending(stream))
            self._tidy(stream)

    def _finish_sending(self, stream: Stream) -> bytes:
        """The frames after the last byte; of a released stream the other direction ends as well."""
        frames = b"" if stream.has_ended else encode(Kind.END, stream.id)
        stream.has_ended = stream.wants_end = True
        if stream.is_released and not stream.is_finished:
            frames += encode(Kind.RESET, stream.id, reason("node_unreachable", "the peer reads no more"))
            stream.is_finished = True
        return frames

    def _on_abort(self, number: StreamId, code: str, message: str) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            self._out.say(encode(Kind.RESET, number, reason(code, message)))
            self._remove(stream)

    def _on_consumed(self, number: StreamId, count: int) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.is_released:
            return  # what it held was given back when it ended
        self._in.take(stream, count)
        self._tidy(stream)

    def _ping(self, now: Instant) -> None:
        if payload := self._pulse.ping(now):
            self._out.say(encode(Kind.PING, SESSION, payload))

    def _drain(self, message: str, effects: list[Effect]) -> None:
        if not self.is_draining:
            self.is_draining = True
            self._out.say(encode(Kind.GOAWAY, SESSION, reason("not_available", message)))
            effects.append(Draining(message=message))

    # ------------------------------------------------------------------ to the peer

    def _on_writable(self, bytes_max: int, effects: list[Effect]) -> None:
        parts: list[bytes | memoryview] = []
        self._in.windows(self._streams, parts)
        for stream in self._out.collect(parts, bytes_max):
            if stream.queue or not stream.wants_end:
                effects.append(RoomMade(stream=stream.id))
            else:
                parts.append(self._finish_sending(stream))
                self._tidy(stream)
        if parts:
            self._write(parts, effects)

    def _write(self, parts: list[bytes | memoryview], effects: list[Effect]) -> None:
        data = b"".join(parts)
        self.counters.sent_bytes += len(data)
        effects.append(Write(data=data))

    # ------------------------------------------------------------------ from the peer

    def _on_received(self, data: bytes | bytearray | memoryview, now: Instant, effects: list[Effect]) -> None:
        self._pulse.heard(now)
        self.counters.received_bytes += len(data)
        try:
            for kind, flags, number, payload in self._parser.parse(data):
                if kind is Kind.DATA and self._theirs is not None:
                    self._on_data(number, flags, payload, effects)
                    continue
                self._on_control(kind, flags, number, payload, now, effects)
                if self.is_closed:
                    return
                if self._out.answers_bytes > self._limits.answers_bytes_max:
                    raise PeerProtocolError("a peer provokes answers faster than it reads them")
        except PeerProtocolError as error:
            self._fail(error.message, effects)

    def _on_data(self, number: StreamId, flags: int, data: bytes, effects: list[Effect]) -> None:
        stream = self._streams.get(number)
        self._in.spend(flags, len(data))
        if stream is None or stream.is_released:
            self._ignore(number, stream)
            self._in.waste(flags, len(data))
            return
        self._in.arrive(stream, flags, len(data))
        effects.append(Arrived(stream=number, data=data))

    def _on_control(
        self, kind: Kind, flags: int, number: StreamId, payload: bytes, now: Instant, effects: list[Effect]
    ) -> None:
        if self._theirs is None and kind not in {Kind.HELLO, Kind.GOAWAY}:
            raise PeerProtocolError(f"a peer began with {kind.name} and not with HELLO")
        match kind:
            case Kind.HELLO:
                self._on_hello(decode_words(payload, Hello), now, effects)
            case Kind.OPEN:
                self._on_peer_open(number, min(flags, Priority.BULK), decode_words(payload, Opening), now, effects)
            case Kind.WINDOW:
                self._on_window(number, payload)
            case Kind.END:
                self._on_peer_end(number, effects)
            case Kind.RESET:
                self._on_reset(number, decode_words(payload, Reason), effects)
            case Kind.PING:
                self._out.answer(encode(Kind.PONG, SESSION, payload[:8]))
            case Kind.PONG:
                self._on_pong(payload, now, effects)
            case Kind.GOAWAY:
                self._on_goaway(flags, decode_words(payload, Reason), effects)
            case Kind.DATA:
                raise AssertionError("DATA has a way of its own")
            case _:
                assert_never(kind)

    def _on_hello(self, theirs: Hello, now: Instant, effects: list[Effect]) -> None:
        if self._theirs is not None:
            raise PeerProtocolError("a peer greets twice")
        version = agree(self._hello, theirs)
        self._theirs = theirs
        self._out.credit = theirs.connection_bytes
        self._out.is_open = True
        self._our_opens = TokenBucket(theirs.opens_per_s * 0.9, max(1.0, theirs.opens_per_s * 0.9), now)
        effects.append(Established(version=version, boot=theirs.boot))

    def _on_peer_open(
        self, number: StreamId, flags: int, opening: Opening, now: Instant, effects: list[Effect]
    ) -> None:
        if number % 2 == self._next_id % 2 or number <= self._last_theirs:
            raise PeerProtocolError(f"a peer opens stream {number}, which is not its next")
        assert self._theirs is not None, "checked before"
        self._last_theirs = number
        priority = Priority(flags)
        refusal = self._admission.refusal(priority, now)
        if refusal:
            self.counters.refused += 1
            self._out.answer(encode(Kind.RESET, number, reason("not_available", refusal)))
            return
        self._admission.opened(priority)
        self.counters.accepted += 1
        self._add(number, priority, self._theirs)
        effects.append(Accepted(stream=number, purpose=opening.purpose, subject=opening.subject, priority=priority))

    def _on_window(self, number: StreamId, payload: bytes) -> None:
        count = int.from_bytes(payload, "big")
        stream = self._streams.get(number)
        if len(payload) != 4 or not count:
            raise PeerProtocolError("a peer opens a window by nothing that can be read")
        if number == SESSION:
            self._out.credit += count
            too_much = self._out.credit > CREDIT_MAX
        elif stream is None:
            self._ignore(number, stream)
            return
        else:
            stream.credit += count
            too_much = stream.credit > CREDIT_MAX
            self._out.line_up(stream)
        if too_much:
            raise PeerProtocolError("a peer opens a window wider than there can be")

    def _on_peer_end(self, number: StreamId, effects: list[Effect]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            self._ignore(number, stream)
            return
        if stream.is_finished:
            raise PeerProtocolError(f"a peer ends its stream {number} twice")
        stream.is_finished = True
        self._in.forgo(stream)
        if not stream.is_released:
            effects.append(Ended(stream=number))
        self._tidy(stream)

    def _on_reset(self, number: StreamId, why: Reason, effects: list[Effect]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            self._ignore(number, stream)
            return
        if stream.is_finished and not stream.is_released:
            self._out.clear(stream)
            stream.has_ended = stream.wants_end = True
            effects.append(Stopped(stream=number, code=why.code, message=why.message))
            self._tidy(stream)
            return
        if not stream.is_released:
            effects.append(Broken(stream=number, code=why.code, message=why.message))
        self._remove(stream)

    def _ignore(self, number: StreamId, stream: Stream | None) -> None:
        """A frame for a stream that is over; raises PeerProtocolError when there never was such a stream."""
        is_ours = number % 2 == self._next_id % 2
        if stream is None and (
            number == SESSION or (number >= self._next_id if is_ours else number > self._last_theirs)
        ):
            raise PeerProtocolError(f"a peer speaks of stream {number}, which was never opened")
        self.counters.stale += 1

    def _on_pong(self, payload: bytes, now: Instant, effects: list[Effect]) -> None:
        seconds = self._pulse.answered(payload, now)
        if seconds is not None:
            effects.append(RoundTrip(seconds=seconds))

    def _on_goaway(self, flags: int, why: Reason, effects: list[Effect]) -> None:
        if flags & FINAL or self._theirs is None:
            self._close(why.code, why.message, effects, is_ours=False)
            return
        self._has_peer_drained = True
        self._drain(why.message, effects)

    # ------------------------------------------------------------------ time

    def deadline(self) -> Instant:
        """When `Tick` is wanted next."""
        if self._theirs is None:
            return self._pulse.hello_deadline()
        wanted = [self._pulse.ping_deadline(), self._pulse.death_deadline()]
        wanted += [self._streams[one].linger_until for one in self._lingering]
        return min(one for one in wanted if one is not None)

    def _on_tick(self, now: Instant, effects: list[Effect]) -> None:
        if now < self.deadline():
            return
        if self._theirs is None:
            self._fail(f"the peer did not greet in {self._limits.hello_s:g} s", effects)
            return
        for number in [one for one in self._lingering if self._streams[one].linger_until <= now]:
            self._on_abort(number, "node_unreachable", "nobody took what was left to send")
        death_at, ping_at = self._pulse.death_deadline(), self._pulse.ping_deadline()
        if death_at is not None and death_at <= now:
            message = f"the peer was silent for {self._limits.silence_s:g} s"
            self._close("node_unreachable", message, effects, is_ours=True)
        elif ping_at is not None and ping_at <= now:
            self._ping(now)

    # ------------------------------------------------------------------ the end

    def _tidy(self, stream: Stream) -> None:
        """Forget `stream` when both directions are over and all is read."""
        if not stream.is_open and (stream.is_released or not stream.unread):
            self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        self._in.drop(stream)
        self._out.clear(stream)
        self._lingering.pop(stream.id, None)
        del self._streams[stream.id]
        if stream.id % 2 == self._next_id % 2:
            self._ours_open -= 1
        else:
            self._admission.closed(stream.priority)

    def _fail(self, message: str, effects: list[Effect]) -> None:
        """The peer broke the rules."""
        self._out.say(encode(Kind.GOAWAY, SESSION, reason("peer_protocol", message), FINAL))
        self._close("peer_protocol", message, effects, is_ours=True)

    def _close(self, code: str, message: str, effects: list[Effect], *, is_ours: bool, is_clean: bool = False) -> None:
        for number, stream in self._streams.items():
            self._out.clear(stream)
            if not stream.is_released:
                effects.append(Broken(stream=number, code="node_unreachable", message=message))
        self._streams.clear()
        self._in.clear()
        self._lingering.clear()
        self.is_closed = True
        effects.append(Closed(code=code, message=message, is_ours=is_ours, is_clean=is_clean))

    def _after_the_end(self, event: Event, effects: list[Effect]) -> None:
        """A closed session only says what it has still to say."""
        if isinstance(event, Open):
            effects.append(OpenRefused(code="not_available", message="the connection is closed"))
        elif isinstance(event, Writable) and self._out.has_control:
            parts: list[bytes | memoryview] = []
            self._out.collect_control(parts)
            self._write(parts, effects)

    def check_invariants(self) -> None:
        """Raise AssertionError when the books do not balance."""
        self._out.check_invariants(self._streams.values())
        assert self._parser.held_bytes <= HEAD.size + CONTROL_BYTES_MAX
        if self.is_closed:
            assert not self._streams
            return
        self._in.check_invariants(self._streams)
        assert all(number == stream.id for number, stream in self._streams.items())
        ours = sum(number % 2 == self._next_id % 2 for number in self._streams)
        assert self._ours_open == ours, f"{self._ours_open} of ours, {ours} are there"
        assert self._admission.open == len(self._streams) - ours <= self._limits.streams_max
        assert all(number in self._streams for number in self._lingering)
