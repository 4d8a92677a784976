"""Who may get a seat in the group: members of the cluster and nobody else."""

from typing import Any

from consensus.state.records import NodeRecord
from consensus.storage import Membership
from consensus.subgroup import Peer, SubgroupConfig, next_change
from node.group.peers import make_peers
from node.membership.sighting import Sighting
from orca.model.ids import NodeId
from orca.model.trust import NodeRole
from orca.model.units import WallMs
from orca.model.view import MemberState

ONE, TWO, THREE = NodeId("n-1"), NodeId("n-2"), NodeId("n-3")


def record(node: NodeId, role: NodeRole = NodeRole.MEMBER) -> NodeRecord:
    return NodeRecord(id=node, name=str(node), admitted_at_ms=WallMs(0), role=role)


def sight(node: NodeId) -> Sighting:
    return Sighting(node=node, name=str(node), zone="", state=MemberState.ALIVE, state_age_s=100.0)


def peers(*records: NodeRecord, **more: Any) -> dict[NodeId, Peer]:
    made = make_peers(
        {one.id: one for one in records},
        {node: sight(node) for node in (ONE, TWO, THREE)},
        more.pop("membership", Membership(voters=(ONE,))),
        {},
        own=ONE,
        unseen_for_s=0.0,
        loads={},
        learner_for_s={},
        **more,
    )
    return {one.node: one for one in made}


def test_who_is_only_seen_by_gossip_is_no_peer() -> None:
    assert set(peers(record(ONE), record(TWO))) == {ONE, TWO}


def test_a_worker_is_never_asked_to_vote() -> None:
    found = peers(record(ONE), record(TWO, NodeRole.WORKER), record(THREE, NodeRole.WORKER))
    assert [found[node].may_vote for node in (ONE, TWO, THREE)] == [True, False, False]
    assert next_change(list(found.values()), ONE, SubgroupConfig(wanted=3)) is None


def test_a_voter_that_was_removed_or_asked_to_be_excused_loses_its_seat() -> None:
    membership = Membership(voters=(ONE, TWO, THREE))
    removed = peers(record(ONE), record(TWO), membership=membership)
    assert removed[THREE].is_leaving
    excused = peers(record(ONE), record(TWO), record(THREE), membership=membership, excused={TWO})
    assert excused[TWO].is_leaving
    assert not excused[THREE].is_leaving
