"""Bytes that are damaged, foreign or too new are refused and never guessed at."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.state.cluster import ClusterState
from consensus.state.commands import PutServices, decode_command, encode_command
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.errors import PeerProtocolError, StoreCorruptError
from orca.model.ids import RequestId
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec

HEAD = len(b"orca-state")


def sample() -> bytes:
    cluster = Cluster()
    cluster.put(make_spec(), make_spec("db"))
    return encode_snapshot(cluster.state)


def test_a_state_comes_back_as_it_was() -> None:
    cluster = Cluster()
    cluster.put(make_spec(env={"A": "ä"}), make_spec("db"))
    cluster.restart("default/web")
    assert decode_snapshot(encode_snapshot(cluster.state)) == cluster.state
    assert decode_snapshot(encode_snapshot(ClusterState())) == ClusterState()


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


def test_a_snapshot_of_a_newer_release_says_so() -> None:
    snapshot = bytearray(sample())
    snapshot[HEAD] = 9
    with pytest.raises(StoreCorruptError, match="schema 9"):
        decode_snapshot(bytes(snapshot))


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xc1", b"\x90", b"\x81\xa8revision\xa1x", b"\x81\xa8services\x81\xa2\xff\xfe\x80"],
    ids=["nothing", "no msgpack", "a list", "a wrong type", "no UTF-8"],
)
def test_content_that_is_no_state_is_refused_also_with_a_good_checksum(plain: bytes) -> None:
    body = zlib.compress(plain)
    framed = b"orca-state" + bytes([1]) + zlib.crc32(body).to_bytes(4, "big") + body
    with pytest.raises(StoreCorruptError):
        decode_snapshot(framed)


def test_content_after_the_end_of_the_state_is_refused() -> None:
    body = sample()[HEAD + 5 :] + b"more"
    framed = b"orca-state" + bytes([1]) + zlib.crc32(body).to_bytes(4, "big") + body
    with pytest.raises(StoreCorruptError):
        decode_snapshot(framed)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x81\xa4type\xa3new", b"\x81\xa4type\xa2\xff\xfe", b"\x80"], ids=repr
)
def test_a_command_that_this_release_does_not_know_is_an_error_and_not_skipped(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="update this node"):
        decode_command(payload)


def test_a_command_comes_back_as_it_was() -> None:
    put = PutServices(request_id=RequestId("r"), at_ms=WallMs(1), actor="ann", entries=())
    assert decode_command(encode_command(put)) == put
