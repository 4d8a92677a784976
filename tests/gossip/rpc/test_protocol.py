"""Values on the wire: cut anywhere, written in either dialect, bounded, and never anything but a CodecError."""

from collections.abc import Callable, Iterator
from functools import partial

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codec.dialect import as_fields
from gossip.messages import CoordinatePayload
from gossip.rpc.protocol import (
    COMMANDS_WITH_BODY,
    CodecError,
    Limits,
    ReplyHeader,
    RequestHeader,
    ValueReader,
    decode_reply_header,
    decode_request_header,
    encode_reply_header,
    encode_request_header,
    pack_value,
)
from gossip.rpc.records import (
    decode_coordinate,
    decode_member,
    decode_news,
    decode_query_news,
    decode_stats,
    encode_coordinate,
    encode_member,
    encode_news,
    encode_query_news,
    encode_stats,
)
from gossip.rpc.requests import Request, command_of, decode_request, encode_request
from tests.gossip.rpc import strategies

SMALL = Limits(4096, 64)


def read_all(reader: ValueReader, data: bytes) -> Iterator[object]:
    reader.feed(data)
    while (value := reader.next()) is not None:
        yield value[0]


def outcome(read: Callable[[], object]) -> str:
    """The cause of the one error that `read` may raise; "read" when it does not."""
    try:
        read()
    except CodecError as error:
        return error.cause
    return "read"


def only(data: bytes) -> object:
    (value,) = read_all(ValueReader(Limits(1 << 20, 4096)), data)
    return value


@given(request=strategies.requests, seq=strategies.numbers)
def test_every_request_is_read_as_it_was_written(request: Request, seq: int) -> None:
    values = list(read_all(ValueReader(Limits(1 << 20, 4096)), encode_request(seq, request)))
    assert decode_request_header(values[0]) == RequestHeader(command_of(request), seq)
    assert len(values) == (2 if command_of(request) in COMMANDS_WITH_BODY else 1)
    body = as_fields(values[1]) if len(values) == 2 else {}
    assert decode_request(command_of(request), body) == request


@given(data=st.data())
def test_records_and_bodies_are_read_as_they_were_written(data: st.DataObject) -> None:
    news = data.draw(strategies.news)
    assert decode_news(as_fields(only(encode_news(news)))) == news
    answer = data.draw(strategies.query_news)
    assert decode_query_news(as_fields(only(encode_query_news(answer)))) == answer
    member = data.draw(strategies.members)
    assert decode_member(only(encode_member(member))) == member
    stats = data.draw(st.dictionaries(strategies.words, strategies.tags, max_size=3))
    assert decode_stats(as_fields(only(encode_stats(stats)))) == stats


def test_a_coordinate_is_read_as_it_was_written_and_may_be_unknown() -> None:
    coordinate = CoordinatePayload(vector=(0.5, -1.0), error=1.5, adjustment=-0.25, height=1e-5)
    assert decode_coordinate(as_fields(only(encode_coordinate(coordinate)))) == coordinate
    assert decode_coordinate(as_fields(only(encode_coordinate(None)))) is None


@given(request=strategies.requests)
def test_the_older_dialect_says_the_same(request: Request) -> None:
    """Agents that write the raw family for texts and bytes alike."""
    values = [
        msgpack.packb(value, use_bin_type=False)
        for value in read_all(ValueReader(Limits(1 << 20, 4096)), encode_request(3, request))
    ]
    body = as_fields(only(values[1])) if len(values) == 2 else {}
    assert decode_request(command_of(request), body) == request


@given(pieces=st.lists(st.integers(1, 30), min_size=1), seq=strategies.numbers)
def test_values_come_out_whole_however_the_stream_is_cut(pieces: list[int], seq: int) -> None:
    stream = encode_reply_header(seq, "no") + pack_value({"Keys": {"a": 1}}) + encode_reply_header(1)
    reader = ValueReader(SMALL)
    found: list[object] = []
    place = 0
    while place < len(stream):
        step = pieces[place % len(pieces)]
        found += read_all(reader, stream[place : place + step])
        place += step
    assert [decode_reply_header(found[0]), decode_reply_header(found[2])] == [
        ReplyHeader(seq, "no"),
        ReplyHeader(1, ""),
    ]
    assert found[1] == {b"Keys": {b"a": 1}}
    assert not reader.pending_bytes


@settings(max_examples=300)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_values_or_one_error(data: bytes) -> None:
    def read() -> None:
        for value in read_all(ValueReader(SMALL), data):
            decode_request_header(value)

    assert outcome(read)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=5), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(
    ["Name", "Payload", "Tags", "Seq", "Command", "Event", "Members", "Addr", "Status", "Type", "Existing", "Version",
     "Timeout", "FilterTags", "Coord", "Ok", "Vec", "ID", "Stop", "AuthKey", "Keys", "Messages", "NumNodes", "From"]
)  # fmt: skip


@settings(max_examples=300)
@given(body=st.dictionaries(keys, values, max_size=6), command=st.sampled_from(sorted(COMMANDS_WITH_BODY)))
def test_any_body_is_a_request_a_record_or_one_error(body: dict[str, object], command: str) -> None:
    fields = as_fields(only(pack_value(body)))
    for read in (decode_news, decode_query_news, decode_stats, decode_coordinate, decode_member, decode_reply_header):
        assert outcome(partial(read, fields))
    assert outcome(lambda: decode_request(command, fields))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (pack_value(b"x" * 5000), "bad_msgpack"),
        (b"\xdb\xff\xff\xff\xff" + b"x" * 5000, "too_large"),
        (pack_value(list(range(65))), "bad_msgpack"),
        (b"\xdd\x00\x00\x00\x30" * 2000, "bad_msgpack"),
        (pack_value([[b"x" * 500] * 10]), "too_large"),
        (b"\x91" * 1100 + b"\x01", "bad_msgpack"),
        (b"\xc1", "bad_msgpack"),
        (pack_value({}) * 3 + b"\x81\x81\x01\x02\x03", "bad_msgpack"),
    ],
    ids=["long text", "huge text", "long list", "lists of lists", "large in all", "deep", "no type", "map as a key"],
)
def test_what_is_too_large_or_broken_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(CodecError) as caught:
        list(read_all(ValueReader(SMALL), data))
    assert caught.value.cause == cause


def test_a_value_that_never_ends_is_refused_before_it_is_all_kept() -> None:
    reader = ValueReader(SMALL)
    reader.feed(b"\x9f")
    for _ in range(10):
        reader.feed(pack_value(b"x" * 400))
        assert reader.next() is None
    reader.feed(pack_value(b"x" * 400))
    with pytest.raises(CodecError, match="at most 4096"):
        reader.next()


def test_other_limits_hold_from_the_next_value_on_and_nothing_is_lost() -> None:
    reader = ValueReader(SMALL)
    large = pack_value([1] * 1000)
    reader.feed(pack_value({"a": 1}) + large[:500])
    assert reader.next() == ({b"a": 1},)
    reader.change_limits(Limits(1 << 20, 4096))
    assert reader.next() is None
    reader.feed(large[500:])
    assert reader.next() == ((1,) * 1000,)


def test_a_header_without_a_number_is_none() -> None:
    with pytest.raises(CodecError, match="without Seq"):
        decode_reply_header({b"Error": b""})
    with pytest.raises(CodecError):
        decode_request_header({b"Command": b"x" * 65, b"Seq": 1})
    assert decode_request_header(only(encode_request_header(RequestHeader("members", 2**64 - 1)))).seq == 2**64 - 1
