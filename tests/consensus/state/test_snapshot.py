"""Bytes that are damaged, foreign or too new are refused and never guessed at."""

import hashlib
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.state import snapshot as snapshots
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState
from consensus.state.commands import AdmitNode, PutServices, SpecEntry, decode_command, encode_command
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.errors import InvalidRequestError, PeerProtocolError, StoreCorruptError, StoreFullError
from orca.model.ids import LogIndex, NodeId, RequestId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec

MAGIC = b"orca-state"


def sample() -> bytes:
    cluster = Cluster()
    cluster.put(make_spec(), make_spec("db"))
    cluster.apply(AdmitNode(node=NodeId("n-1"), name="one", at_ms=WallMs(1), actor="ann"))
    return encode_snapshot(cluster.state)


def framed(body: bytes, schema: int = 1) -> bytes:
    """`body` in a head that fits it."""
    rest = schema.to_bytes(4, "big") + body
    return MAGIC + bytes([2]) + hashlib.sha256(rest).digest() + rest


def packed(*pieces: bytes) -> bytes:
    """A stream of `pieces`, ended as it should be."""
    return zlib.compress(b"".join(len(piece).to_bytes(4, "big") + piece for piece in (*pieces, b"")))


def values(**changed: object) -> bytes:
    """The first piece of an empty state."""
    fields = {
        "revision": 0, "plan_revision": 0, "schema": 1, "epoch": 0, "clock_ms": 0, "settings": {}, "request_changes": 0
    }  # fmt: skip
    return msgspec.msgpack.encode({**fields, **changed})


def test_a_state_comes_back_as_it_was() -> None:
    cluster = Cluster()
    cluster.put(make_spec(env={"A": "ä"}), make_spec("db"))
    cluster.restart("default/web")
    assert decode_snapshot(encode_snapshot(cluster.state)) == cluster.state
    assert decode_snapshot(encode_snapshot(ClusterState())) == ClusterState()


def test_a_large_state_comes_back_in_its_order() -> None:
    cluster = Cluster()
    for number in range(1_000):
        cluster.apply(AdmitNode(node=NodeId(f"n-{number * 7919 % 1000}"), name=f"node{number}", at_ms=WallMs(1)))
    restored = decode_snapshot(encode_snapshot(cluster.state))
    assert restored == cluster.state
    assert list(restored.nodes) == list(cluster.state.nodes), "a new node would be looked at in another order"
    assert encode_snapshot(restored) == encode_snapshot(cluster.state)


def test_what_the_head_and_the_pieces_are() -> None:
    assert decode_snapshot(framed(packed(values()))) == ClusterState()


def test_a_frozen_state_does_not_show_what_is_applied_later() -> None:
    cluster = Cluster()
    cluster.put(make_spec(), make_spec("db"))
    frozen = cluster.state.freeze()
    before = encode_snapshot(frozen)
    cluster.put(make_spec(image="web:2"), make_spec("new"))
    cluster.remove("default/db")
    cluster.apply(AdmitNode(node=NodeId("n-1"), name="one", at_ms=WallMs(1)))
    assert encode_snapshot(frozen) == before
    assert encode_snapshot(cluster.state) != before
    assert frozen.freeze() == frozen


def test_nothing_is_applied_to_a_frozen_state() -> None:
    command = AdmitNode(node=NodeId("n-1"), name="one", at_ms=WallMs(1))
    with pytest.raises(AssertionError, match="for reading"):
        apply(ClusterState().freeze(), LogIndex(1), command)
    with pytest.raises(AttributeError):
        ClusterState().freeze().schema = 2  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_changed_byte_is_found(data: st.DataObject) -> None:
    snapshot = bytearray(sample())
    place = data.draw(st.integers(0, len(snapshot) - 1))
    snapshot[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreCorruptError):
        decode_snapshot(bytes(snapshot))


def test_a_snapshot_that_was_cut_anywhere_is_refused() -> None:
    snapshot = sample()
    for length in range(len(snapshot)):
        with pytest.raises(StoreCorruptError):
            decode_snapshot(snapshot[:length])


def test_a_snapshot_of_a_newer_format_or_schema_says_so_and_keeps_the_data() -> None:
    snapshot = bytearray(sample())
    snapshot[len(MAGIC)] = 9
    with pytest.raises(StoreCorruptError, match=r"format 9.*update this node"):
        decode_snapshot(bytes(snapshot))
    with pytest.raises(StoreCorruptError, match=r"schema 7.*update this node.*whole"):
        decode_snapshot(framed(packed(values(schema=7)), schema=7))


def test_what_was_written_before_the_first_release_is_refused_and_not_taken_for_empty() -> None:
    body = zlib.compress(msgspec.msgpack.encode(ClusterState()))
    with pytest.raises(StoreCorruptError, match="format 1"):
        decode_snapshot(MAGIC + bytes([1]) + zlib.crc32(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        zlib.compress(b""),
        packed(),
        packed(b"\xc1"),
        packed(b"\x90"),
        packed(values(revision="x")),
        packed(values(extra=1)),
        packed(values(), b"\x93"),
        packed(values(), msgspec.msgpack.encode(("strangers", {}))),
        packed(values(), msgspec.msgpack.encode(("services", {"a/b": {}}))),
        packed(values(), msgspec.msgpack.encode(("services", [1]))),
        packed(values(), b"\x92\xa8services\x81\xa2\xff\xfe\x80"),
        packed(values(schema=3)),
        packed(values())[:-1],
        packed(values()) + b"more",
        zlib.compress(b"\x00\x00\x00\x09more"),
        zlib.compress(packed(values()) + bytes(4) + b"more"),
        zlib.compress(b"\xff\xff\xff\xff"),
    ],
    ids=lambda body: f"{len(body)} bytes",
)
def test_content_that_is_no_state_is_refused_also_with_a_good_checksum(body: bytes) -> None:
    with pytest.raises(StoreCorruptError):
        decode_snapshot(framed(body))


def test_a_small_file_that_unpacks_to_more_than_any_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_SIZE_MAX", 1 << 20)
    empty = msgspec.msgpack.encode(("requests", {}))
    with pytest.raises(StoreCorruptError, match="more than"):
        decode_snapshot(framed(packed(values(), *[empty] * 100_000)))


def test_a_state_that_no_release_would_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_SIZE_MAX", 100)
    with pytest.raises(StoreFullError, match="larger than 100"):
        sample()


def test_a_command_whose_values_are_of_wrong_types_never_gets_into_the_log() -> None:
    wrong = AdmitNode(node=NodeId("n-1"), name=3, at_ms=WallMs(1))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        encode_command(wrong)
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        encode_command(AdmitNode(node=NodeId("n-1"), name="\ud800", at_ms=WallMs(1)))


def test_a_command_with_a_field_that_this_release_does_not_know_is_an_error_at_any_depth() -> None:
    entry = SpecEntry(spec=make_spec(), template="t")
    put = PutServices(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann", entries=(entry,))
    plain = msgspec.msgpack.decode(encode_command(put))
    (inner,) = plain["entries"]
    assert decode_command(msgspec.msgpack.encode(plain)) == put
    for newer in ({**plain, "color": 1}, {**plain, "entries": [{**inner, "color": 1}]}):
        with pytest.raises(PeerProtocolError, match="update this node"):
            decode_command(msgspec.msgpack.encode(newer))


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x81\xa4type\xa3new", b"\x81\xa4type\xa2\xff\xfe", b"\x80"], ids=repr
)
def test_a_command_that_this_release_does_not_know_is_an_error_and_not_skipped(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="update this node"):
        decode_command(payload)


def test_a_command_comes_back_as_it_was() -> None:
    put = PutServices(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann", entries=())
    assert decode_command(encode_command(put)) == put
