"""The rules of a session, one by one."""

import pytest

from node.mesh.session import (
    Abort,
    Closed,
    Consumed,
    Drain,
    Draining,
    End,
    Established,
    Leave,
    Limits,
    Open,
    OpenRefused,
    Ping,
    Priority,
    Received,
    Release,
    RoundTrip,
    Send,
    StreamId,
    Writable,
    Write,
)
from node.mesh.session.framing import HEAD, SESSION, Kind, encode
from node.mesh.session.words import Hello, Opening, encode_words, reason
from orca.model.units import Instant
from tests.node.mesh.session.pair import TINY, Pair
from tests.node.mesh.session.pair import End as Side


def greeted(limits: Limits = Limits()) -> Pair:
    pair = Pair(limits)
    pair.settle()
    return pair


def opened(side: Side, priority: Priority = Priority.INTERACTIVE, subject: bytes = b"") -> StreamId:
    stream = side.open(priority, subject)
    assert stream is not None
    return stream


def frames_in(data: bytes) -> list[tuple[int, int]]:
    """Kind and stream of each frame."""
    found, at = [], 0
    while at < len(data):
        kind, _, stream, length = HEAD.unpack_from(data, at)
        found.append((kind, stream))
        at += HEAD.size + length
    return found


def test_both_greet_and_streams_carry_bytes_both_ways_to_the_end() -> None:
    pair = greeted()
    stream = opened(pair.a, subject=b"who asks")
    pair.a.do(Send(stream=stream, data=b"question"))
    pair.a.do(End(stream=stream))
    pair.settle()
    assert pair.b.streams[stream].subject == b"who asks"
    assert bytes(pair.b.streams[stream].received) == b"question"
    pair.b.do(Send(stream=stream, data=b"answer"))
    pair.b.do(End(stream=stream))
    pair.settle()
    assert bytes(pair.a.streams[stream].received) == b"answer"
    assert pair.a.session.streams == pair.b.session.streams == 0
    assert not pair.a.closed
    assert not pair.b.closed


def test_nothing_is_opened_before_the_peer_has_greeted() -> None:
    pair = Pair()
    assert pair.a.open() is None


def test_what_is_urgent_leaves_before_a_backlog_of_bulk() -> None:
    pair = greeted()
    bulk, urgent = opened(pair.a, Priority.BULK), opened(pair.a, Priority.URGENT)
    pair.a.do(Send(stream=bulk, data=bytes(500_000)))
    pair.a.do(Writable(bytes_max=1000))
    pair.a.wire.clear()
    pair.a.do(Send(stream=urgent, data=b"heartbeat"))
    pair.a.do(Writable(bytes_max=1000))
    assert frames_in(bytes(pair.a.wire))[0] == (Kind.DATA, urgent)


def test_urgent_bytes_do_not_wait_for_the_window_that_bulk_has_used_up() -> None:
    pair = greeted(TINY)
    bulk, urgent = opened(pair.a, Priority.BULK), opened(pair.a, Priority.URGENT)
    other = opened(pair.a, Priority.BULK)
    for stream in (bulk, other):
        pair.a.do(Send(stream=stream, data=bytes(100)))
    pair.settle(is_read=False)
    assert len(pair.b.streams[bulk].received) + len(pair.b.streams[other].received) == TINY.connection_bytes
    pair.a.do(Send(stream=urgent, data=b"vote"))
    pair.settle(is_read=False)
    assert bytes(pair.b.streams[urgent].received) == b"vote"


def test_bulk_moves_while_urgent_and_interactive_streams_never_pause() -> None:
    pair = greeted()
    streams = [opened(pair.a, priority) for priority in Priority]
    for stream in streams:
        pair.a.do(Send(stream=stream, data=bytes(900_000)))
    for _ in range(100):
        pair.a.do(Writable(bytes_max=1000))
    sent = [stream for kind, stream in frames_in(bytes(pair.a.wire)) if kind == Kind.DATA]
    assert sent.count(streams[0]) > sent.count(streams[1]) > sent.count(streams[2]) > 0


def test_streams_of_one_priority_take_turns() -> None:
    pair = greeted()
    streams = [opened(pair.a, Priority.BULK) for _ in range(3)]
    for stream in streams:
        pair.a.do(Send(stream=stream, data=bytes(200_000)))
    pair.a.do(Writable(bytes_max=6 * 65_536))
    turns = [stream for kind, stream in frames_in(bytes(pair.a.wire)) if kind == Kind.DATA]
    assert turns[:6] == streams * 2


def test_a_slow_reader_stops_its_own_stream_only() -> None:
    pair = greeted(Limits(stream_bytes=1000, connection_bytes=10_000))
    slow, quick = opened(pair.a), opened(pair.a)
    pair.a.do(Send(stream=slow, data=bytes(5000)))
    pair.settle(is_read=False)
    assert len(pair.b.streams[slow].received) == 1000
    pair.a.do(Send(stream=quick, data=bytes(500)))
    pair.settle(is_read=False)
    assert len(pair.b.streams[quick].received) == 500
    pair.settle()
    assert len(pair.b.streams[slow].received) == 5000


def test_a_released_stream_sends_what_waits_and_the_peer_reads_it_to_the_end() -> None:
    pair = greeted(TINY)
    stream = opened(pair.a)
    pair.a.do(Send(stream=stream, data=b"the whole answer"))
    pair.a.do(Release(stream=stream))
    pair.settle()
    half = pair.b.streams[stream]
    assert bytes(half.received) == b"the whole answer"
    assert half.is_ended
    assert half.is_stopped
    assert pair.a.session.streams == pair.b.session.streams == 0


def test_a_released_stream_that_nobody_reads_is_given_up() -> None:
    pair = greeted(TINY)
    stream = opened(pair.a)
    pair.a.do(Send(stream=stream, data=bytes(100)))
    pair.a.do(Release(stream=stream))
    pair.settle(is_read=False)
    assert pair.a.session.streams == 1
    for _ in range(20):
        pair.pass_time(1)
        pair.settle(is_read=False)
    assert pair.a.session.streams == 0
    assert pair.b.streams[stream].broken


def test_what_comes_for_an_aborted_stream_gives_its_credit_back() -> None:
    """Else the window of the connection would close bit by bit."""
    pair = greeted(TINY)
    for _ in range(50):
        stream = opened(pair.a)
        pair.a.do(Send(stream=stream, data=bytes(7)))
        pair.a.do(Writable(bytes_max=1000))
        pair.deliver(pair.a, len(pair.a.wire) - 3)
        pair.b.do(Abort(stream=stream, code="forbidden", message="not you"))
        pair.settle()
        assert pair.a.streams[stream].broken == "not you"
    assert not pair.a.closed
    assert not pair.b.closed


def test_a_peer_that_takes_no_more_streams_says_so_and_others_go_on() -> None:
    pair = greeted(TINY)
    streams = [opened(pair.a) for _ in range(TINY.streams_max)]
    refusal = pair.a.do(Open(purpose="p"))[0]
    assert isinstance(refusal, OpenRefused)
    assert "as many as it takes" in refusal.message
    pair.a.do(Abort(stream=streams[0], code="internal", message=""))
    assert pair.a.open() is not None


def test_a_pair_that_drains_closes_when_its_last_stream_has_ended() -> None:
    pair = greeted()
    early, crossing = opened(pair.a), opened(pair.b)
    pair.settle()
    pair.a.do(Drain(message="another is kept"))
    late = opened(pair.b)  # b has not heard yet
    pair.settle()
    assert any(isinstance(effect, Draining) for effect in pair.b.effects)
    assert pair.b.open() is None
    for stream in (early, crossing, late):
        for side in pair.ends:
            assert not side.closed
            side.do(Send(stream=stream, data=b"last words"))
            side.do(End(stream=stream))
    pair.settle()
    for side in pair.ends:
        assert side.closed is not None
        assert side.closed.is_clean
        assert all(bytes(half.received) == b"last words" for half in side.streams.values())


def test_who_leaves_says_why_and_all_streams_of_both_break() -> None:
    pair = greeted()
    stream = opened(pair.a)
    pair.settle()
    pair.a.do(Leave(code="forbidden", message="your certificate was revoked"))
    pair.settle()
    assert pair.b.closed == Closed(code="forbidden", message="your certificate was revoked", is_ours=False)
    assert pair.b.streams[stream].broken == "your certificate was revoked"


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    pair = greeted()
    pair.a.now = pair.b.now = Instant(5.0)
    pair.pass_time(0.1)
    pair.settle()
    assert not pair.a.closed
    for _ in range(40):
        pair.pass_time(0.5)
        pair.a.wire.clear()
        pair.b.wire.clear()
    for side in pair.ends:
        assert side.closed is not None
        assert "silent for 15 s" in side.closed.message


def test_a_round_trip_is_measured() -> None:
    pair = greeted()
    pair.a.do(Ping())
    pair.a.do(Writable(bytes_max=100))
    pair.deliver(pair.a)
    pair.a.now = Instant(0.02)
    pair.settle()
    assert [one.seconds for one in pair.a.effects if isinstance(one, RoundTrip)] == [0.02]
    assert pair.a.session.round_trip_s == 0.02


def test_who_does_not_greet_in_time_is_left() -> None:
    pair = Pair()
    pair.pass_time(5)
    assert pair.a.closed is not None
    assert "did not greet" in pair.a.closed.message


def test_neighbouring_releases_agree_on_the_lower_version() -> None:
    newer = Hello(version=3, least=1, boot=b"b", stream_bytes=10, connection_bytes=10, streams_max=1, opens_per_s=1)
    pair = Pair(hello_of_b=newer)
    pair.settle()
    assert [one.version for one in pair.a.effects if isinstance(one, Established)] == [1]
    assert [one.version for one in pair.b.effects if isinstance(one, Established)] == [1]


def test_releases_too_far_apart_part_in_words() -> None:
    pair = Pair(hello_of_b=Hello(version=9, least=8))
    pair.settle()
    for side in pair.ends:
        assert side.closed is not None
        assert "update the older of them" in side.closed.message


def test_what_an_older_peer_sent_is_still_understood() -> None:
    """Bytes of version 1 as they are: whoever changes the format makes this fail, and then needs a new version."""
    hello = bytes.fromhex("87a776657273696f6e01a56c6561737401a4626f6f74c4016fac73747265616d5f6279746573ce00100000")
    hello += bytes.fromhex(
        "b0636f6e6e656374696f6e5f6279746573ce00400000ab73747265616d735f6d6178cd0400ab6f70656e735f7065725f73cd03e8"
    )
    recorded = HEAD.pack(1, 0, 0, len(hello)) + hello
    opening = bytes.fromhex("82a7707572706f7365a474756e6ea77375626a656374c40173")
    recorded += HEAD.pack(2, 1, 1, len(opening)) + opening
    recorded += bytes.fromhex("0301000000010000000568656c6c6f05000000000100000000")
    pair = Pair()
    pair.b.do(Received(data=recorded))
    assert not pair.b.closed
    assert pair.b.streams[StreamId(1)].subject == b"s"
    assert bytes(pair.b.streams[StreamId(1)].received) == b"hello"
    assert pair.b.streams[StreamId(1)].is_ended


def test_fields_and_optional_frames_of_a_newer_peer_are_left_out() -> None:
    pair = greeted()
    extra = b"\x83\xa7purpose\xa1p\xa7subject\xc4\x01s\xa6colour\xa4blue"
    frames = encode(Kind.OPEN, StreamId(1), extra, 1) + HEAD.pack(200, 0, 77, 5) + b"12345"
    for at in range(len(frames)):
        pair.b.do(Received(data=frames[at : at + 1]))
    assert pair.b.streams[StreamId(1)].subject == b"s"
    assert not pair.b.closed


HELLO = encode(Kind.HELLO, SESSION, encode_words(Limits().hello(b"x")))
LONG_SUBJECT = encode_words(Opening(purpose="p", subject=bytes(4097)))
OPEN = encode(Kind.OPEN, StreamId(1), encode_words(Opening(purpose="p")), 1)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not know"),
        (HEAD.pack(Kind.DATA, 0, 1, 2**32 - 1), "4294967295 bytes"),
        (HELLO + HEAD.pack(Kind.DATA, 1, 1, 2**32 - 1), "4294967295 bytes"),
        (HELLO + HEAD.pack(Kind.OPEN, 0, 1, 2**31), "2147483648 bytes"),
        (HELLO + HEAD.pack(200, 0, 1, 2**31), "2147483648 bytes"),
        (OPEN, "began with OPEN"),
        (encode(Kind.DATA, StreamId(1), b"x"), "began with DATA"),
        (HELLO + HELLO, "greets twice"),
        (HELLO + encode(Kind.OPEN, StreamId(2), encode_words(Opening(purpose="p"))), "not its next"),
        (HELLO + OPEN + OPEN, "not its next"),
        (HELLO + encode(Kind.OPEN, StreamId(1), b"\xc1"), "cannot be read"),
        (HELLO + encode(Kind.OPEN, StreamId(1), LONG_SUBJECT), "cannot be read"),
        (HELLO + encode(Kind.DATA, StreamId(3), b"x", 1), "never opened"),
        (HELLO + encode(Kind.WINDOW, StreamId(2), b"\0\0\0\1"), "never opened"),
        (HELLO + encode(Kind.END, SESSION), "never opened"),
        (HELLO + encode(Kind.WINDOW, SESSION, b"\xff\xff\xff\xff"), "wider than there can be"),
        (HELLO + encode(Kind.WINDOW, SESSION, b"\0\0\0\0"), "nothing that can be read"),
        (HELLO + OPEN + encode(Kind.END, StreamId(1)) * 2, "ends its stream 1 twice"),
        (HELLO + OPEN + encode(Kind.END, StreamId(1)) + encode(Kind.DATA, StreamId(1), b"x", 1), "does not allow"),
        (HELLO + OPEN + encode(Kind.DATA, StreamId(1), b"x", 2), "does not allow"),
        (HELLO + OPEN + encode(Kind.DATA, StreamId(1), bytes(65_536), 1) * 17, "does not allow"),
        (HELLO + encode(Kind.PING, SESSION, bytes(8)) * 10_000, "faster than it reads"),
        (HEAD.pack(17, 0, 0, 0), "does not know"),
    ],
)  # fmt: skip
def test_who_breaks_a_rule_is_told_which_and_left(sent: bytes, words: str) -> None:
    pair = Pair()
    pair.b.do(Received(data=sent))
    assert pair.b.closed is not None
    assert pair.b.closed.code == "peer_protocol"
    assert words in pair.b.closed.message
    assert any(isinstance(one, Write) for one in pair.b.do(Writable(bytes_max=1)))
    assert words.encode() in bytes(pair.b.wire)


def test_ten_thousand_streams_opened_and_abandoned_end_the_session_and_leave_nothing() -> None:
    pair = greeted()
    sent = b"".join(
        encode(Kind.OPEN, StreamId(number), encode_words(Opening(purpose="p")), 1)
        + encode(Kind.RESET, StreamId(number), reason("internal", "never mind"))
        for number in range(1, 20_001, 2)
    )
    for at in range(0, len(sent), 60_000):
        pair.b.do(Received(data=sent[at : at + 60_000]))
        pair.b.do(Writable(bytes_max=1))
    assert pair.b.closed is not None
    assert pair.b.session.streams == 0
    assert len(pair.b.streams) <= Limits().opens_per_s


def test_a_flood_of_streams_is_refused_one_by_one_and_then_left() -> None:
    pair = greeted()
    for number in range(1, 20_001, 2):
        pair.b.do(Received(data=encode(Kind.OPEN, StreamId(number), encode_words(Opening(purpose="p")), 1)))
        pair.b.do(Writable(bytes_max=1))
    assert pair.b.closed is not None
    assert "floods this node with new streams" in pair.b.closed.message
    assert pair.b.session.counters.refused <= 1001


def test_an_urgent_flood_is_bounded_like_any_other() -> None:
    pair = greeted()
    for number in (1, 3, 5):
        pair.b.do(Received(data=encode(Kind.OPEN, StreamId(number), encode_words(Opening(purpose="p")), 0)))
    assert len(pair.b.streams) == Limits().urgent_max


def test_consuming_more_than_came_is_a_bug_that_stops_the_node() -> None:
    pair = greeted()
    stream = opened(pair.a)
    with pytest.raises(AssertionError, match="1 bytes were taken of 0"):
        pair.a.do(Consumed(stream=stream, count=1))
