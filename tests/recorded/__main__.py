"""`python -m tests.recorded`: record what this release says."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import trio
from trio.testing import memory_stream_pair

from consensus.feed.messages import Committed, Current, Follow, SnapshotBegun, SnapshotPart, encode_feed
from consensus.feed.messages import Place as FeedPlace
from consensus.raft import Message as RaftMessage
from consensus.raft import encode_message as encode_raft
from consensus.raft import messages as raft
from consensus.state.commands import (
    AdmitNode,
    ChangeSettings,
    Command,
    CreateApiToken,
    LabelNode,
    RemoveNode,
    ScaleService,
    WrapDataKey,
    encode_command,
)
from consensus.state.snapshot import encode_snapshot
from consensus.storage import Entry, SnapshotMeta
from gossip.facts import frames as facts
from node.api.caller import Caller
from node.api.passport import issue
from node.membership.tags import own_tags
from node.mesh.driver import MeshAddress
from node.mesh.session import Abort, End, Leave, Ping, Priority, Send
from node.trust import messages as trust
from node.trust.joining import ask_to_join
from orca.model.allocation import AllocationStatus, Endpoint, Phase
from orca.model.event import EventKind, NodeEvent
from orca.model.ids import (
    AllocationId,
    ClusterId,
    LogIndex,
    NodeId,
    RequestId,
    ServiceId,
    SpecRevision,
    StateRevision,
    Term,
    TokenId,
)
from orca.model.node import NodeAddresses, NodeFacts, RuntimeState
from orca.model.spec import RuntimeKind
from orca.model.trust import ApiRole
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import EventsReply, MemberState, MemberView, NodesReply, NodeView, Observation, StatusReply
from orca.version import VERSION
from tests.consensus.intent import Cluster, make_spec
from tests.node.mesh.session.pair import End as Side
from tests.node.mesh.session.pair import Pair
from tests.node.trust.cluster import Member, order
from tests.recorded.pieces import PEERS, READERS, Piece, meaning, save

NODE, OTHER = NodeId("n-1"), NodeId("n-2")
AT = WallMs(1_700_000_000_000)
STAMP: Any = {"request_id": RequestId("r-1"), "at_ms": AT, "actor": "ann"}
SEEN = Observation(observer=NODE, at_ms=AT, state_revision=StateRevision(7))
FACTS = NodeFacts(
    id=NODE,
    name="one",
    version=VERSION,
    architecture="x86_64",
    cpu_milli=MilliCpu(4000),
    memory_bytes=Bytes(2**33),
    labels={"zone": "a"},
    runtimes=(RuntimeState(kind=RuntimeKind.WASM, is_available=True, version="1"),),
)
STATUS = AllocationStatus(
    allocation=AllocationId("aaaaaaaaaaaa"),
    service=ServiceId("default/web"),
    node=NODE,
    revision=SpecRevision(1),
    version=3,
    phase=Phase.RUNNING,
    since_ms=AT,
    is_ready=True,
    endpoints=(Endpoint(port=80, host="127.0.0.1", host_port=8080),),
)


def piece(kind: str, name: str, content: bytes) -> Piece:
    """One piece, with what it means to the reader of this release."""
    means = meaning(READERS[kind](content)) if kind in READERS else None
    return Piece(kind=kind, name=name, data=content.hex(), means=means)


def of_raft() -> Iterator[Piece]:
    head: Any = {"term": Term(3), "epoch": 1}
    meta = SnapshotMeta(last_index=LogIndex(9), last_term=Term(2))
    entry = Entry(term=Term(2), index=LogIndex(10), payload=b"payload")
    said: tuple[RaftMessage, ...] = (
        raft.PreVote(**head, last_index=LogIndex(9), last_term=Term(2)),
        raft.PreVoteReply(**head, for_term=Term(3), is_granted=True),
        raft.RequestVote(**head, last_index=LogIndex(9), last_term=Term(2)),
        raft.VoteReply(**head, is_granted=True),
        raft.AppendEntries(
            **head, prev_index=LogIndex(9), prev_term=Term(2), entries=(entry,), commit_index=LogIndex(9)
        ),
        raft.AppendReply(**head, is_accepted=True, index=LogIndex(10)),
        raft.Heartbeat(**head, commit_index=LogIndex(9), round=4),
        raft.HeartbeatReply(**head, round=4),
        raft.InstallSnapshot(**head, meta=meta, size=5, checksum=1, offset=0, data=b"bytes"),
        raft.SnapshotReply(**head, last_index=LogIndex(9), next_offset=5),
        raft.TimeoutNow(**head),
        raft.EpochNotice(**head),
    )
    for message in said:
        yield piece("raft", type(message).__name__, encode_raft(message))


def of_intent() -> Iterator[Piece]:
    place = FeedPlace(meta=SnapshotMeta(last_index=LogIndex(9), last_term=Term(2)), size=5, checksum=1, offset=0)
    entry = Entry(term=Term(2), index=LogIndex(10), payload=b"payload")
    said = (
        Follow(epoch=1, after=LogIndex(9), term=Term(2), partial=place),
        SnapshotBegun(epoch=1, place=place),
        SnapshotPart(offset=0, data=b"bytes"),
        Committed(epoch=1, entries=(entry,)),
        Current(epoch=1, commit_index=LogIndex(10), age_ms=5, term=Term(3), leader=NODE),
    )
    for message in said:
        yield piece("feed", type(message).__name__, encode_feed(message))


def of_gossip() -> Iterator[Piece]:
    item = facts.Item(key="status/a", version=2, value=b"value", ttl_s=30.0)
    reach = facts.Reach(writer=str(NODE), incarnation=1, version=2, gc_version=0)
    delta = facts.Delta(
        writer=str(NODE), incarnation=1, from_version=1, to_version=2, gc_version=0, items=(item,), is_push=True
    )
    said = (facts.Summary(buckets=bytes(4)), facts.Digest(reaches=(reach,)), delta)
    yield piece("facts", "frame", facts.encode_frame(str(NODE), [facts.encode_message(one) for one in said]))
    yield piece("node_fact", "node", msgspec.msgpack.encode(FACTS))
    yield piece("status_fact", "status", msgspec.msgpack.encode(STATUS))
    tags = own_tags(name="one", cluster="c-test", zone="a", mesh=MeshAddress("10.0.0.1", 6881), at="10.0.0.1")
    yield Piece(kind="tags", name="own", data="", means=tags)


def of_state() -> Iterator[Piece]:
    cluster = Cluster()
    said: tuple[Command, ...] = (
        AdmitNode(node=NODE, name="one", at_ms=AT, addresses=NodeAddresses(mesh="10.0.0.1:6881"), schema=1),
        AdmitNode(node=OTHER, name="two", at_ms=AT, schema=1),
        LabelNode(**STAMP, node=NODE, labels={"disk": "ssd"}),
        ScaleService(**STAMP, service=ServiceId("default/web"), replicas=3),
        ChangeSettings(**STAMP, gossip_key_version=2),
        CreateApiToken(**STAMP, token=TokenId("t1"), name="ci", secret_hash=bytes(32), role=ApiRole.VIEWER),
        WrapDataKey(**STAMP, version=1, wrapped={OTHER: b"wrapped"}),
        RemoveNode(**STAMP, node=OTHER, reason="gone"),
    )
    for number, command in enumerate(said):
        yield piece("command", f"{number} {type(command).__name__}", encode_command(command))
    cluster.put(make_spec(env={"A": "b"}), make_spec("db"))
    for number, command in enumerate(said):
        if not isinstance(command, AdmitNode):
            command = msgspec.structs.replace(command, request_id=RequestId(f"r-{number}"))
        cluster.apply(command)
    yield piece("state", "snapshot", encode_snapshot(cluster.state))


def of_api() -> Iterator[Piece]:
    view = NodeView(facts=FACTS, is_leader=True, allocations=1, started_at_ms=AT, api="", ingress=(), data_dir="/d")
    event = NodeEvent(sequence=1, at_ms=AT, node=NODE, kind=EventKind.NODE_STARTED, message="one started")
    member = MemberView(name="one", id=NODE, address="10.0.0.1:7946", state=MemberState.ALIVE, state_age_ms=5)
    replies: tuple[msgspec.Struct, ...] = (
        StatusReply(observation=SEEN, cluster=ClusterId("c-test"), leader=NODE, nodes=(view,), services=()),
        EventsReply(observation=SEEN, events=(event,), last_sequence=1),
        NodesReply(observation=SEEN, members=(member,), health_score=0),
    )
    for reply in replies:
        yield piece(type(reply).__name__, "reply", msgspec.json.encode(reply))
    caller = Caller(actor="unix:0", origin="local", role=ApiRole.ADMIN)
    yield piece("passport", "admin", issue(caller, StateRevision(7)))


class Recording(Pair):
    """Two sessions, and all that each has put on the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.said = {self.a.session: bytearray(), self.b.session: bytearray()}

    def deliver(self, sender: Side, count: int | None = None) -> None:
        self.said[sender.session] += sender.wire[:count]
        super().deliver(sender, count)


def of_mesh() -> Iterator[Piece]:
    """A stream in each direction, one of each is ended, one is reset; a ping; and a farewell."""
    pair = Recording()
    pair.settle()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        number = side.open(Priority.BULK, b"subject")
        assert number is not None, "nothing speaks against it"
        side.do(Send(stream=number, data=b"asked"))
        side.do(End(stream=number))
        side.do(Ping())
        pair.settle()
        other.do(Send(stream=number, data=b"answered"))
        other.do(End(stream=number))
        pair.settle()
    number = pair.a.open(Priority.URGENT)
    assert number is not None, "nothing speaks against it"
    pair.a.do(Abort(stream=number, code="not_available", message="enough"))
    pair.settle()
    pair.a.do(Leave(code="node_unreachable", message="the peer is stopping"))
    pair.settle()
    yield piece("mesh", "dialler", bytes(pair.said[pair.a.session]))
    yield piece("mesh", "listener", bytes(pair.said[pair.b.session]))


async def of_join() -> list[Piece]:
    """A join, as each side says it; what nodes ask each other about trust later; and what the join is replayed with."""
    member = Member()
    token = member.make_token()
    what = order(token)
    near, far = memory_stream_pair()
    joiner, desk = Tap(near), Tap(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(member.desk.serve, desk, "10.0.0.9")
        await ask_to_join(joiner, member.certificate, what, NodeAddresses(mesh="a:1"), peer="it", clock=member.clock)
    later: tuple[trust.Message, ...] = (
        trust.TrustRefused(code="forbidden", message="no", hint="ask"),
        trust.RenewRequest(csr=b"csr"),
        trust.Renewed(certificate=b"certificate"),
        trust.KeysRequest(),
        trust.GossipKeys(keys=(bytes(32),), version=2),
        trust.SeatRequest(),
        trust.Seat(is_seated=True),
        trust.LeaveRequest(is_forced=True),
        trust.Left(),
    )
    setting = {
        "token": token.text(),
        "leaf": member.certificate.hex(),
        "tls_key": what.keys.tls_key.hex(),
        "wrap_key": what.keys.wrap_key.hex(),
        "wall_ms": member.clock.wall(),
    }
    return [
        Piece(kind="join", name="joiner", data=joiner.sent.hex(), means=setting),
        Piece(kind="join", name="member", data=desk.sent.hex()),
        *(piece("trust", type(one).__name__, trust.encode_message(one)) for one in later),
    ]


class Tap(trio.abc.Stream):
    """A stream that keeps what is sent on it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.sent = bytearray()
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def main() -> None:
    """Write the recording of this release."""
    parts: list[Iterable[Piece]] = [of_mesh(), trio.run(of_join), of_raft(), of_intent(), of_gossip(), of_state()]
    save(PEERS / f"{VERSION}.json", [one for part in (*parts, of_api()) for one in part])


if __name__ == "__main__":
    main()
