"""What is known of each node, put together for the choice of voters."""

from typing import Any

import pytest

from consensus.raft import PeerProgress, PeerState
from consensus.state.cluster import NodeRecord
from consensus.storage import Membership
from consensus.subgroup import Peer, Seat
from node.group.peers import make_peers, seat_of
from node.membership.sighting import Sighting
from orca.model.ids import LogIndex, NodeId
from orca.model.trust import NodeRole
from orca.model.units import Instant, WallMs
from orca.model.view import MemberState

A, B, C = NodeId("n-a"), NodeId("n-b"), NodeId("n-c")


def record(node: NodeId, role: NodeRole = NodeRole.MEMBER) -> NodeRecord:
    return NodeRecord(id=node, name=node, admitted_at_ms=WallMs(0), role=role)


def sighting(node: NodeId, state: MemberState = MemberState.ALIVE, zone: str = "", age_s: float = 30.0) -> Sighting:
    return Sighting(node=node, name=node, zone=zone, state=state, state_age_s=age_s)


def known(**changes: Any) -> dict[NodeId, Peer]:
    fields: dict[str, Any] = {
        "nodes": {A: record(A), B: record(B)},
        "seen": {A: sighting(A), B: sighting(B)},
        "membership": Membership(voters=(A,)),
        "progress": {},
        "own": A,
        "unseen_for_s": 7.0,
        "loads": {},
        "learner_for_s": {},
    }
    return {peer.node: peer for peer in make_peers(**{**fields, **changes})}


def test_seats_follow_the_membership() -> None:
    membership = Membership(voters=(A,), learners=(B,))
    assert [seat_of(node, membership) for node in (A, B, C)] == [Seat.VOTER, Seat.LEARNER, Seat.NONE]


def test_everybody_is_there_who_was_admitted_or_is_a_member_and_nobody_who_was_only_seen() -> None:
    voter, seen = NodeId("n-v"), NodeId("n-s")
    peers = known(seen={seen: sighting(seen)}, membership=Membership(voters=(A, voter)))
    assert list(peers) == [A, B, voter]


def test_who_gossip_does_not_know_counts_as_dead_for_as_long_as_this_node_has_looked() -> None:
    peer = known(seen={A: sighting(A)})[B]
    assert (peer.is_alive, peer.dead_for_s, peer.alive_for_s) == (False, 7.0, 0.0)


def test_this_node_lives_and_has_caught_up_with_itself_whatever_gossip_says() -> None:
    peer = known(seen={})[A]
    assert (peer.is_alive, peer.lag, peer.has_caught_up) == (True, 0, True)


@pytest.mark.parametrize(
    ("state", "is_alive", "is_leaving"),
    [
        (MemberState.ALIVE, True, False),
        (MemberState.SUSPECT, True, False),
        (MemberState.LEAVING, True, True),
        (MemberState.LEFT, False, True),
        (MemberState.FAILED, False, False),
    ],
)
def test_states_of_gossip_say_who_lives_and_who_leaves(state: MemberState, is_alive: bool, is_leaving: bool) -> None:
    peer = known(seen={A: sighting(A), B: sighting(B, state, zone="x")})[B]
    assert (peer.is_alive, peer.is_leaving, peer.zone) == (is_alive, is_leaving, "x")
    assert (peer.alive_for_s, peer.dead_for_s) == ((30.0, 0.0) if is_alive else (0.0, 30.0))


def test_lag_and_load_come_from_who_measures_them() -> None:
    progress = PeerProgress(
        node=B,
        is_voter=False,
        match_index=LogIndex(5),
        next_index=LogIndex(6),
        state=PeerState.REPLICATE,
        lag=4,
        contact_at=Instant(0.0),
        has_caught_up=True,
    )
    peer = known(progress={B: progress}, loads={B: 0.5}, learner_for_s={B: 3.0})[B]
    assert (peer.lag, peer.has_caught_up, peer.load, peer.learner_for_s) == (4, True, 0.5, 3.0)
    assert known()[B].lag is None


def test_a_worker_may_not_vote_and_neither_may_who_is_not_admitted() -> None:
    peers = known(nodes={A: record(A), B: record(B, NodeRole.WORKER)}, membership=Membership(voters=(A, C)))
    assert [peers[node].may_vote for node in (A, B, C)] == [True, False, False]
