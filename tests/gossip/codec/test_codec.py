"""Messages come out as they went in, and what is no message is dropped with a cause."""

import contextlib
import random
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codec import CodecError, Keyring, PacketCodec, StreamReader
from gossip.codec.frames import decode_message, encode_message
from gossip.codec.lzw import compress, expand
from gossip.codec.serf_frames import (
    decode_conflict_member,
    decode_coordinate,
    decode_key_request,
    decode_key_response,
    decode_serf,
    decode_tags,
    encode_conflict_member,
    encode_coordinate,
    encode_key_request,
    encode_key_response,
    encode_serf,
    encode_tags,
)
from gossip.codec.streams import encode_stream
from gossip.messages import (
    Ack,
    Address,
    Alive,
    ConflictMember,
    CoordinatePayload,
    Dead,
    IndirectPing,
    JoinIntent,
    KeyRequest,
    KeyResponse,
    LeaveIntent,
    Nack,
    NodeFilter,
    PastEvent,
    PastEvents,
    Ping,
    PushPull,
    PushPullNode,
    Query,
    QueryResponse,
    Relay,
    SerfState,
    StreamError,
    Suspect,
    TagFilter,
    User,
    UserEvent,
    WireState,
)

KEY = bytes(range(16))
HERE = Address("127.0.0.1", 7946)


def ring(*keys: bytes) -> Keyring:
    rng = random.Random(7)
    return Keyring(keys or (KEY,), lambda: rng.randbytes(12))


names = st.text(max_size=40)
u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
hosts = st.ip_addresses().map(str).filter(lambda host: not host.startswith("::ffff:"))
addresses = st.builds(Address, hosts, st.integers(1, 2**16 - 1))
blobs = st.binary(max_size=200)
versions = st.binary(max_size=6)

packet_messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(Ping, sequence=u32, node=names, source=st.none() | addresses, source_node=names),
    st.builds(
        IndirectPing,
        sequence=u32,
        target=addresses,
        node=names,
        wants_nack=st.booleans(),
        source=st.none() | addresses,
        source_node=names,
    ),
    st.builds(Ack, sequence=u32, payload=blobs),
    st.builds(Nack, sequence=u32),
    st.builds(Alive, incarnation=u32, node=names, address=addresses, meta=blobs, version=versions),
    st.builds(Suspect, incarnation=u32, node=names, accuser=names),
    st.builds(Dead, incarnation=u32, node=names, accuser=names),
    st.builds(User, payload=blobs),
)
stream_messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        PushPull,
        nodes=st.lists(
            st.builds(
                PushPullNode,
                node=names,
                address=addresses,
                meta=blobs,
                incarnation=u32,
                state=st.sampled_from(list(WireState)),
                version=versions,
            ),
            max_size=5,
        ).map(tuple),
        user_state=blobs,
        is_join=st.booleans(),
    ),
    st.builds(Ping, sequence=u32, node=names),
    st.builds(Ack, sequence=u32),
    st.builds(User, payload=blobs),
    st.builds(StreamError, message=st.text(max_size=100)),
)
filters = st.builds(NodeFilter, nodes=st.lists(names, max_size=4).map(tuple)) | st.builds(
    TagFilter, tag=names, expression=names
)
serf_messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(LeaveIntent, ltime=u64, node=names, is_prune=st.booleans()),
    st.builds(JoinIntent, ltime=u64, node=names),
    st.builds(
        SerfState,
        ltime=u64,
        status_ltimes=st.dictionaries(names, u64, max_size=5),
        left_members=st.lists(names, max_size=4).map(tuple),
        event_ltime=u64,
        events=st.lists(
            st.builds(
                PastEvents,
                ltime=u64,
                events=st.lists(st.builds(PastEvent, name=names, payload=blobs), max_size=3).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
        query_ltime=u64,
    ),
    st.builds(UserEvent, ltime=u64, name=names, payload=blobs, is_coalescable=st.booleans()),
    st.builds(
        Query,
        ltime=u64,
        query_id=u32,
        source=addresses,
        source_node=names,
        filters=st.lists(filters, max_size=3).map(tuple),
        wants_ack=st.booleans(),
        is_local_only=st.booleans(),
        relay_factor=st.integers(0, 255),
        timeout_ns=st.integers(0, 2**63 - 1),
        name=names,
        payload=blobs,
    ),
    st.builds(QueryResponse, ltime=u64, query_id=u32, node=names, is_ack=st.booleans(), payload=blobs),
    st.builds(Relay, target=addresses, target_node=names, message=blobs),
)


@given(message=packet_messages)
def test_every_packet_message_survives_the_way(message: Any) -> None:
    assert decode_message(encode_message(message)) == message


@given(message=serf_messages)
def test_every_serf_message_survives_the_way(message: Any) -> None:
    assert decode_serf(encode_serf(message)) == message


codecs = st.builds(
    PacketCodec,
    st.sampled_from([None, ring(), ring(bytes(24)), ring(bytes(32), KEY)]),
    st.sampled_from([b"", b"blue", b"x" * 255]),
)


@given(messages=st.lists(packet_messages, min_size=1, max_size=9), codec=codecs, has_crc=st.booleans())
def test_a_datagram_carries_all_its_messages(messages: list[Any], codec: PacketCodec, has_crc: bool) -> None:
    frames = [encode_message(message) for message in messages]
    datagram = codec.pack(frames, has_crc=has_crc)
    assert codec.unpack(datagram) == (messages, [])
    if len(frames) == 1 and not has_crc:
        assert len(datagram) == len(frames[0]) + codec.overhead_bytes


@given(message=stream_messages, codec=codecs, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_a_stream_gives_its_message_however_it_is_cut(message: Any, codec: PacketCodec, cuts: list[int]) -> None:
    data = encode_stream(message, codec)
    reader = StreamReader(codec)
    place = turn = 0
    found = None
    while place < len(data):
        assert found is None, "the message was there before its end"
        step = cuts[turn % len(cuts)]
        found = reader.feed(data[place : place + step])
        place, turn = place + step, turn + 1
    assert found == message


def test_a_ping_is_what_a_real_agent_sends() -> None:
    """Captured from Serf 0.9.4."""
    captured = bytes.fromhex(
        "0085a44e6f6465a26e31a55365714e6f01aa536f7572636541646472a47f000001"
        "aa536f757263654e6f6465a26e32aa536f75726365506f7274cd4a3a"
    )
    ping = Ping(sequence=1, node="n1", source=Address("127.0.0.1", 19002), source_node="n2")
    assert decode_message(captured) == ping
    assert encode_message(ping) == captured


def test_an_event_is_what_a_real_agent_sends() -> None:
    captured = bytes.fromhex("0384a24343c2a54c54696d6501a44e616d65a568656c6c6fa75061796c6f6164a5776f726c64")
    event = UserEvent(ltime=1, name="hello", payload=b"world")
    assert decode_serf(captured) == event
    assert encode_serf(event) == captured


def test_numbers_text_and_bytes_are_read_in_every_width_that_go_reads() -> None:
    odd = msgpack.packb({"SeqNo": 7, "Payload": b"abc", "Unknown": [1, {"x": 2}]}, use_bin_type=True)
    assert decode_message(b"\x02" + odd) == Ack(sequence=7, payload=b"abc")
    wide = b"\x02\x82\xa5SeqNo\xd3\x00\x00\x00\x00\x00\x00\x00\x07\xa7Payload\xc0"
    assert decode_message(wide) == Ack(sequence=7)
    assert decode_message(b"\x02\x80") == Ack(sequence=0)
    assert decode_message(b"\x0b\x81\xa5SeqNo\x05 and more") == Nack(sequence=5)


def test_an_ipv4_address_that_comes_mapped_is_ipv4() -> None:
    frame = b"\x04" + msgpack.packb(
        {"Node": b"n", "Addr": bytes(10) + b"\xff\xff\x0a\x00\x00\x07", "Port": 5}, use_bin_type=False
    )
    message = decode_message(frame)
    assert isinstance(message, Alive)
    assert message.address == Address("10.0.0.7", 5)


def test_a_name_that_is_no_utf8_is_kept_as_it_came() -> None:
    frame = b"\x03" + msgpack.packb({"Node": b"\xff\xfe", "From": b"x", "Incarnation": 1}, use_bin_type=False)
    message = decode_message(frame)
    assert decode_message(encode_message(message)) == message
    assert b"\xff\xfe" in encode_message(message)


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (b"", "empty"),
        (b"\x63", "unknown_type"),
        (b"\x02", "bad_msgpack"),
        (b"\x02\xc1", "bad_msgpack"),
        (b"\x02\x91\x01", "no_struct"),
        (b"\x02\x81\xa5SeqNo\xff", "bad_number"),
        (b"\x02\x81\xa5SeqNo\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "bad_number"),
        (b"\x02\x81\xa5SeqNo\xc3", "bad_number"),
        (b"\x02\x81\xa7Payload\x01", "bad_bytes"),
        (b"\x04\x81\xa4Addr\xa3abc", "bad_address"),
        (b"\x04\x82\xa4Addr\xa4abcd\xa3Vsn\xa71234567", "bad_version"),
        (b"\x04\x82\xa4Addr\xa4abcd\xa4Node\xda\x02\x01" + b"n" * 513, "too_long"),
        (b"\x02\x81\x81\x01\x02\x03", "bad_msgpack"),
        (b"\x02" + b"\x91" * 4000, "bad_msgpack"),
    ],
)
def test_what_is_no_message_has_a_cause(frame: bytes, cause: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode_message(frame)
    assert caught.value.cause == cause


def test_a_truncated_compound_gives_the_parts_that_are_whole() -> None:
    whole = PacketCodec().pack([encode_message(Nack(sequence=number)) for number in range(3)])
    messages, drops = PacketCodec().unpack(whole[:-1])
    assert messages == [Nack(sequence=0), Nack(sequence=1)]
    assert drops == ["truncated"]


def test_a_bad_part_spoils_only_itself() -> None:
    good = encode_message(Nack(sequence=1))
    assert PacketCodec().unpack(PacketCodec().pack([good, b"\x63", good])) == (
        [Nack(sequence=1), Nack(sequence=1)],
        ["unknown_type"],
    )


def test_a_wrong_checksum_drops_the_datagram() -> None:
    packet = bytearray(PacketCodec().pack([encode_message(Nack(sequence=1))], has_crc=True))
    assert int.from_bytes(packet[1:5], "big") == zlib.crc32(bytes(packet[5:]))
    packet[-1] ^= 1
    assert PacketCodec().unpack(bytes(packet)) == ([], ["bad_crc"])


@pytest.mark.parametrize("key_bytes", [16, 24, 32])
@pytest.mark.parametrize("version", [0, 1])
def test_both_versions_of_the_seal_are_opened(key_bytes: int, version: int) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = bytes(range(key_bytes))
    plain = encode_message(Nack(sequence=1))
    count = 16 - len(plain) % 16
    padded = plain if version else plain + bytes((count,)) * count
    sealed = bytes((version,)) + b"n" * 12 + AESGCM(key).encrypt(b"n" * 12, padded, b"")
    assert PacketCodec(ring(key)).unpack(sealed) == ([Nack(sequence=1)], [])


def test_any_key_of_the_ring_opens_and_the_first_seals() -> None:
    old, new = PacketCodec(ring(KEY)), PacketCodec(ring(bytes(16), KEY))
    frame = encode_message(Nack(sequence=1))
    assert new.unpack(old.pack([frame]))[1] == []
    assert old.unpack(new.pack([frame])) == ([], ["undecryptable"])
    assert old.keyring is not None
    old.keyring.install(bytes(16))
    assert old.unpack(new.pack([frame]))[1] == []
    with pytest.raises(ValueError, match="primary key"):
        old.keyring.remove(KEY)
    old.keyring.use(bytes(16))
    old.keyring.remove(KEY)
    assert old.keyring.keys == (bytes(16),)
    with pytest.raises(ValueError, match="16, 24 or 32"):
        old.keyring.install(b"short")
    with pytest.raises(ValueError, match="not in the keyring"):
        old.keyring.use(KEY)


def test_plain_packets_are_dropped_where_there_is_a_key_unless_that_is_off() -> None:
    plain = PacketCodec().pack([encode_message(Nack(sequence=1))])
    assert PacketCodec(ring()).unpack(plain)[1] == ["truncated"]
    assert PacketCodec(ring(), verifies_incoming=False).unpack(plain) == ([Nack(sequence=1)], [])


def test_clusters_with_other_labels_do_not_hear_each_other() -> None:
    frame = encode_message(Nack(sequence=1))
    blue, green, bare = PacketCodec(ring(), b"blue"), PacketCodec(ring(), b"green"), PacketCodec(ring())
    for sender, reader in ((blue, green), (blue, bare), (bare, blue), (green, blue)):
        assert reader.unpack(sender.pack([frame])) == ([], ["bad_label"])
    forged = b"\xf4\x05green" + blue.pack([frame])[6:]
    assert green.unpack(forged) == ([], ["undecryptable"]), "the label is part of the seal"


@given(data=st.binary(max_size=3000))
def test_compression_is_undone(data: bytes) -> None:
    assert expand(compress(data), 10_000) == data


def test_compression_with_a_full_table_is_undone() -> None:
    rng = random.Random(1)
    data = bytes(rng.choices(b"abcdefgh", k=60_000)) + rng.randbytes(20_000)
    assert expand(compress(data), 100_000) == data


def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = compress(bytes(3_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(CodecError, match="more than 65536 bytes"):
        expand(bomb, 65_536)
    packet = b"\x09" + msgpack.packb({"Algo": 0, "Buf": bomb}, use_bin_type=False)
    assert PacketCodec().unpack(packet) == ([], ["too_large"])


def test_nesting_is_stopped() -> None:
    frame = encode_message(Nack(sequence=1))
    for _ in range(10):
        frame = b"\x07\x01" + len(frame).to_bytes(2, "big") + frame
    assert PacketCodec().unpack(frame) == ([], ["too_many"])


def test_a_compound_of_compounds_cannot_multiply_without_end() -> None:
    part = b"\x07\xff" + (1).to_bytes(2, "big") * 255 + b"\x63" * 255
    frame = b"\x07\x50" + len(part).to_bytes(2, "big") * 80 + part * 80
    messages, drops = PacketCodec().unpack(frame)
    assert messages == []
    assert len(drops) <= 1024


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x63", "unknown_type"),
        (b"\x06\x82\xa5Nodes\xce\xff\xff\xff\xff\xacUserStateLen\x00", "too_large"),
        (b"\x06\x82\xa5Nodes\xff\xacUserStateLen\x00", "bad_number"),
        (b"\x06\x81\xa5Nodes\x01\x81\xa5State\x09", "bad_state"),
        (b"\x08\x81\xaaUserMsgLen\xce\x7f\xff\xff\xff", "too_large"),
        (b"\x0a\x00\x00\x00\x01x", "sealed"),
        (b"\xf4\x01x\x02", "bad_label"),
    ],
)
def test_a_hopeless_stream_is_told_at_once(data: bytes, cause: str) -> None:
    with pytest.raises(CodecError) as caught:
        StreamReader(PacketCodec()).feed(data)
    assert caught.value.cause == cause


def test_a_plain_stream_is_refused_where_there_is_a_key() -> None:
    with pytest.raises(CodecError) as caught:
        StreamReader(PacketCodec(ring())).feed(encode_stream(Ping(sequence=1), PacketCodec()))
    assert caught.value.cause == "plain"
    with pytest.raises(CodecError) as caught:
        StreamReader(PacketCodec(ring())).feed(b"\x0a\x7f\xff\xff\xff")
    assert caught.value.cause == "too_large"


def test_a_compressed_push_pull_is_read() -> None:
    node = PushPullNode(node="a", address=HERE, meta=b"", incarnation=3, state=WireState.ALIVE, version=bytes(6))
    plain, short = (PushPull(nodes=(node,) * 50, user_state=b"state" * 100, is_compressed=one) for one in (False, True))
    body = compress(encode_stream(plain, PacketCodec()))
    data = b"\x09" + msgpack.packb({"Algo": 0, "Buf": body}, use_bin_type=False)
    reader = StreamReader(PacketCodec())
    assert reader.feed(data[:30]) is None
    assert reader.feed(data[30:]) == short


def test_a_state_goes_compressed_where_it_is_to_and_that_is_worth_it() -> None:
    node = PushPullNode(node="a", address=HERE, meta=b"", incarnation=3, state=WireState.ALIVE, version=bytes(6))
    short, plain = (PushPull(nodes=(node,) * 50, is_compressed=is_so) for is_so in (True, False))
    encoded = encode_stream(short, PacketCodec())
    assert encoded[0] == 9
    assert 4 * len(encoded) < len(encode_stream(plain, PacketCodec()))
    assert StreamReader(PacketCodec()).feed(encoded) == short
    few = encode_stream(PushPull(nodes=(node,), is_compressed=True), PacketCodec())
    assert few[0] == 6, "what fits a packet anyhow is left as it is"


@given(tags=st.dictionaries(names, names, max_size=6))
def test_tags_survive(tags: dict[str, str]) -> None:
    assert decode_tags(encode_tags(tags)) == tags


def test_a_role_of_old_is_a_tag() -> None:
    assert decode_tags(b"web") == {"role": "web"}
    assert decode_tags(b"") == {}


def test_key_messages_survive() -> None:
    request = KeyRequest(key=KEY)
    response = KeyResponse(is_success=True, message="m", keys=("a", "b"), primary_key="a")
    assert decode_key_request(encode_key_request(request)) == request
    assert decode_key_response(encode_key_response(response)) == response
    with pytest.raises(CodecError):
        decode_key_response(encode_key_request(request))


def test_a_conflict_answer_survives() -> None:
    member = ConflictMember(node="n", address=HERE, tags={"a": "b"}, status=1, version=bytes((1, 5, 2, 2, 5, 5)))
    assert decode_conflict_member(encode_conflict_member(member)) == member


@given(
    numbers=st.lists(st.floats(allow_nan=False), min_size=3, max_size=3),
    vector=st.lists(st.floats(allow_nan=False), max_size=8),
)
def test_coordinates_survive(numbers: list[float], vector: list[float]) -> None:
    coordinate = CoordinatePayload(vector=tuple(vector), error=numbers[0], adjustment=numbers[1], height=numbers[2])
    assert decode_coordinate(encode_coordinate(coordinate)) == coordinate


@settings(max_examples=400)
@given(data=st.binary(max_size=300), codec=codecs)
def test_any_datagram_is_messages_or_counted(data: bytes, codec: PacketCodec) -> None:
    messages, drops = codec.unpack(data)
    assert messages or drops
    for read in (
        decode_serf,
        decode_tags,
        decode_key_request,
        decode_key_response,
        decode_conflict_member,
        decode_coordinate,
    ):
        try:
            read(data)
        except CodecError:
            continue
    with contextlib.suppress(CodecError):
        StreamReader(codec).feed(data)


@settings(max_examples=300)
@given(
    message=packet_messages | serf_messages | stream_messages,
    places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_message_is_another_or_none(message: Any, places: list[tuple[int, int]]) -> None:
    for encode, read in ((encode_message, decode_message), (encode_serf, decode_serf), (_whole, _read_whole)):
        try:
            data = bytearray(encode(message))
        except (AssertionError, AttributeError, TypeError):
            continue
        for place, value in places:
            if data:
                data[place % len(data)] = value
        try:
            read(bytes(data))
        except CodecError:
            continue


def _whole(message: Any) -> bytes:
    return encode_stream(message, PacketCodec())


def _read_whole(data: bytes) -> object:
    return StreamReader(PacketCodec()).feed(data)
