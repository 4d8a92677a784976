"""Nodes of neighbouring releases work together: what recorded releases said is understood, and what a newer one adds
is left out or stops this one, by rule. The rules are in `orca.version`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from consensus.raft import decode_message as decode_raft
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState
from consensus.state.commands import CreateJoinToken, decode_command
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from gossip.messages import Address
from node.membership.tags import mesh_of, node_of
from node.mesh.session import Accepted, Ended, Established, Limits, Priority, Received, Writable
from node.mesh.session.words import Hello
from node.trust.joining import JoinOrder, ask_to_join
from node.trust.kept import NodeKeys
from node.trust.messages import JoinAnswer, decode_message
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, NodeId, RequestId
from orca.model.join_token import parse_join_token
from orca.model.node import NodeAddresses
from orca.model.units import Instant, WallMs
from orca.version import VERSION
from orca.wire import PROTOCOL_VERSION, FrameReader
from tests.node.mesh.session.pair import End as Side
from tests.node.mesh.session.pair import Pair
from tests.node.trust.cluster import Member, SetClock
from tests.recorded.pieces import PEERS, READERS, Piece, load, meaning

RELEASES = {path.stem: load(path) for path in sorted(PEERS.glob("*.json"))}


def pieces_of(*kinds: str) -> list[Any]:
    """All pieces of these kinds, as parameters of a test."""
    return [
        pytest.param(piece, id=f"{release} {kind} {name}")
        for release, pieces in RELEASES.items()
        for (kind, name), piece in pieces.items()
        if kind in kinds
    ]


MAPS = {"labels", "tags"}
"""Of answers: their keys are what people chose, and no fields."""


@pytest.fixture(params=RELEASES)
def peer(request: pytest.FixtureRequest) -> dict[tuple[str, str], Piece]:
    return RELEASES[request.param]


def covers(now: Any, then: Any) -> bool:
    """Whether `now` says all that was said then; it may say more."""
    if isinstance(now, dict) and isinstance(then, dict):
        return all(key in now and covers(now[key], value) for key, value in then.items())
    if isinstance(now, list) and isinstance(then, list):
        return len(now) >= len(then) and all(map(covers, now, then))
    return bool(now == then)


def test_there_is_a_recording_of_the_present_release() -> None:
    assert VERSION in RELEASES, "record it with `python -m tests.recorded`"


# Pieces


@pytest.mark.parametrize("piece", pieces_of(*READERS))
def test_what_an_older_release_said_means_the_same(piece: Piece) -> None:
    assert covers(meaning(READERS[piece.kind](piece.content)), piece.means), "re-record only what was never released"


def with_more(value: Any) -> Any:
    """What a newer release might say: fields that nobody knows yet, in every object."""
    if isinstance(value, dict):
        known = {key: one if key in MAPS else with_more(one) for key, one in value.items()}
        return {**known, "of_a_newer_release": 1}
    return [with_more(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("piece", pieces_of("raft", "feed", "trust", "passport", "node_fact"))
def test_fields_of_a_newer_release_are_left_out_of_messages(piece: Piece) -> None:
    raw = msgspec.msgpack.decode(piece.content)
    newer = {**raw, "of_a_newer_release": {"deep": [1]}}
    assert meaning(READERS[piece.kind](msgspec.msgpack.encode(newer))) == meaning(READERS[piece.kind](piece.content))


@pytest.mark.parametrize("piece", pieces_of(*(kind for kind in READERS if kind.endswith("Reply"))))
def test_fields_of_a_newer_release_are_left_out_of_answers_at_any_depth(piece: Piece) -> None:
    newer = msgspec.json.encode(with_more(msgspec.json.decode(piece.content)))
    assert meaning(READERS[piece.kind](newer)) == meaning(READERS[piece.kind](piece.content))


@pytest.mark.parametrize("piece", pieces_of("command"))
def test_a_command_with_a_field_of_a_newer_release_stops_this_one(piece: Piece) -> None:
    newer = {**msgspec.msgpack.decode(piece.content), "of_a_newer_release": 1}
    with pytest.raises(PeerProtocolError, match=r"does not know.*of_a_newer_release.*update this node"):
        decode_command(msgspec.msgpack.encode(newer))
    renamed = {**msgspec.msgpack.decode(piece.content), "type": "of_a_newer_release"}
    with pytest.raises(PeerProtocolError, match=r"of_a_newer_release.*update this node"):
        decode_command(msgspec.msgpack.encode(renamed))


def test_a_kind_of_message_that_this_release_does_not_know_is_named() -> None:
    with pytest.raises(PeerProtocolError, match="FromTheFuture"):
        decode_raft(msgspec.msgpack.encode({"type": "FromTheFuture", "term": 1, "epoch": 0}))


def test_the_state_of_an_older_release_goes_on_and_what_it_said_is_done(peer: dict[tuple[str, str], Piece]) -> None:
    state = decode_snapshot(peer["state", "snapshot"].content)
    assert decode_snapshot(encode_snapshot(state)) == state
    assert state.nodes[NodeId("n-1")].labels == {"disk": "ssd"}
    assert state.revoked[NodeId("n-2")].reason == "gone"
    begun = ClusterState()
    for number, ((kind, _), piece) in enumerate(peer.items(), 1):
        if kind == "command":
            apply(begun, LogIndex(number), decode_command(piece.content))
    assert begun.nodes[NodeId("n-1")].addresses.mesh == "10.0.0.1:6881"


def test_tags_of_an_older_release_lead_to_its_mesh(peer: dict[tuple[str, str], Piece]) -> None:
    member = Told({**peer["tags", "own"].means, "of_a_newer_release": "1"})
    assert node_of(member) == "n-1"
    assert mesh_of(member) == ("10.0.0.1", 6881)


class Told:
    """A member, as gossip has it."""

    node = "n-1"
    address = Address("10.0.0.1", 7946)

    def __init__(self, tags: dict[str, str]) -> None:
        self.tags = tags


# The mesh


def hear(side: Side, said: bytes) -> None:
    """What a recorded peer said, in pieces as a network cuts it, to one that opens a stream as soon as it may."""
    for start in range(0, len(said), 7):
        side.do(Received(data=said[start : start + 7]))
        if side.session.is_established and not side.streams:
            assert side.open(Priority.BULK, b"asked") is not None
        if side.session.has_output:
            side.do(Writable(bytes_max=1 << 16))


@pytest.mark.parametrize("role", ["dialler", "listener"])
def test_a_conversation_with_an_older_peer_goes_on_to_its_end(peer: dict[tuple[str, str], Piece], role: str) -> None:
    side = Side(is_dialler=role == "listener", limits=Limits(), now=Instant(0.0))
    hear(side, peer["mesh", role].content)
    assert [one.version for one in side.effects if isinstance(one, Established)] == [PROTOCOL_VERSION]
    accepted = [(one.subject, one.priority) for one in side.effects if isinstance(one, Accepted)]
    assert accepted[0] == (b"subject", Priority.BULK)
    assert {bytes(half.received) for half in side.streams.values()} >= {b"answered", b"asked"}
    assert sum(isinstance(effect, Ended) for effect in side.effects) == 2
    if role == "dialler":
        assert side.closed is not None
        assert (side.closed.message, side.closed.is_ours) == ("the peer is stopping", False)
    else:
        assert side.closed is None


def test_nodes_of_two_releases_speak_the_newest_version_that_both_know() -> None:
    newer = Limits().hello(b"b")
    newer = msgspec.structs.replace(newer, version=PROTOCOL_VERSION + 1, least=PROTOCOL_VERSION)
    pair = Pair(hello_of_b=newer)
    pair.settle()
    for side in pair.ends:
        assert [one.version for one in side.effects if isinstance(one, Established)] == [PROTOCOL_VERSION]
    number = pair.a.open(subject=b"still talks")
    assert number is not None
    pair.settle()
    assert pair.b.streams[number].subject == b"still talks"


def test_a_release_that_has_nothing_in_common_with_this_one_is_refused_with_both_ranges() -> None:
    foreign = Hello(version=PROTOCOL_VERSION + 5, least=PROTOCOL_VERSION + 4)
    pair = Pair(hello_of_b=foreign)
    pair.settle()
    for side, other in (pair.ends, pair.ends[::-1]):
        assert side.closed is not None
        assert "update the older of them" in side.closed.message, other
        assert f"{PROTOCOL_VERSION + 4} to {PROTOCOL_VERSION + 5}" in side.closed.message


# Joining


async def test_who_joins_with_an_older_release_is_let_in(peer: dict[tuple[str, str], Piece]) -> None:
    setting = peer["join", "joiner"].means
    member = Member(at_ms=setting["wall_ms"])
    token = parse_join_token(setting["token"])
    made = CreateJoinToken(
        request_id=RequestId("t"),
        at_ms=WallMs(setting["wall_ms"]),
        actor="ann",
        token=token.id,
        secret_hash=token.secret_hash,
        expires_at_ms=WallMs(setting["wall_ms"] + 1000),
    )
    assert not member.state_machine.apply(made).error
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(member.desk.serve, far, "10.0.0.9")
        await near.send_all(peer["join", "joiner"].content)
        frames = [one async for one in received(near, 2)]
    assert isinstance(decode_message(frames[1]), JoinAnswer)
    assert member.state.nodes[NodeId("n-new")].name == "newcomer"


async def received(stream: trio.abc.ReceiveStream, count: int) -> AsyncIterator[bytes]:
    reader, found = FrameReader(), 0
    while found < count:
        for frame in reader.feed(await stream.receive_some()):
            found += 1
            yield frame


async def test_a_member_of_an_older_release_lets_this_one_in(peer: dict[tuple[str, str], Piece]) -> None:
    setting = peer["join", "joiner"].means
    keys = NodeKeys(
        node=NodeId("n-new"),
        tls_key=bytes.fromhex(setting["tls_key"]),
        wrap_key=bytes.fromhex(setting["wrap_key"]),
    )
    order = JoinOrder(token=parse_join_token(setting["token"]), keys=keys, name="newcomer", schema=1, release=VERSION)
    near, far = memory_stream_pair()
    await far.send_all(peer["join", "member"].content)
    clock, leaf = SetClock(setting["wall_ms"]), bytes.fromhex(setting["leaf"])
    answer = await ask_to_join(near, leaf, order, NodeAddresses(), peer="it", clock=clock)
    assert answer.cluster == "c-test"
    assert answer.gossip_keys


def test_a_recording_is_small_enough_to_be_kept() -> None:
    sizes = {path.name: path.stat().st_size for path in Path(PEERS).iterdir()}
    assert max(sizes.values()) < 200_000, sizes
