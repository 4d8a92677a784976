"""What is known of each node, put together for the choice of voters and for people. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from consensus.raft import PeerProgress
from consensus.state.cluster import ClusterState
from consensus.state.records import NodeRecord
from consensus.storage import Membership
from consensus.subgroup import Peer, Seat
from node.membership.sighting import Sighting
from orca.model.allocation import DesiredStatus
from orca.model.ids import NodeId
from orca.model.node import NodeFacts
from orca.model.trust import NodeRole
from orca.model.view import MemberState

COPIES_PER_CORE: Final = 8.0
"""A node with so many copies for each core counts as fully loaded when voters are chosen."""
_LEAVING = frozenset({MemberState.LEAVING, MemberState.LEFT})


def seat_of(node: NodeId, membership: Membership) -> Seat:
    """Its place in the group."""
    if node in membership.voters:
        return Seat.VOTER
    return Seat.LEARNER if node in membership.learners else Seat.NONE


def may_vote(record: NodeRecord | None) -> bool:
    """Whether a node can have a seat: a member that was admitted, and no worker. None is no node of the cluster."""
    return record is not None and record.role is NodeRole.MEMBER


def make_peers(  # noqa: PLR0913 - all that is known of nodes comes together here
    nodes: Mapping[NodeId, NodeRecord],
    seen: Mapping[NodeId, Sighting],
    membership: Membership,
    progress: Mapping[NodeId, PeerProgress],
    *,
    own: NodeId,
    unseen_for_s: float,
    loads: Mapping[NodeId, float],
    learner_for_s: Mapping[NodeId, float],
    excused: Collection[NodeId] = (),
) -> list[Peer]:
    """All nodes of the cluster, as the leader sees them.

    `nodes`: those that were admitted; nobody else gets a seat, a worker neither, and those in `excused` are
    about to go. One that gossip does not know is taken for dead since
    `unseen_for_s`, the time for which this node has looked.
    """
    peers = []
    for node in sorted({*nodes, *membership.members}):
        sight = seen.get(node)
        is_alive = node == own or (sight is not None and sight.is_alive)
        age_s = unseen_for_s if sight is None else sight.state_age_s
        one, record = progress.get(node), nodes.get(node)
        peers.append(
            Peer(
                node=node,
                zone="" if sight is None else sight.zone,
                seat=seat_of(node, membership),
                is_alive=is_alive,
                alive_for_s=age_s if is_alive else 0.0,
                dead_for_s=0.0 if is_alive else age_s,
                load=loads.get(node, 0.0),
                lag=0 if node == own else (None if one is None else one.lag),
                has_caught_up=node == own or (one is not None and one.has_caught_up),
                is_leaving=(sight is not None and sight.state in _LEAVING) or record is None or node in excused,
                may_vote=may_vote(record),
                learner_for_s=learner_for_s.get(node, 0.0),
            )
        )
    return peers


def loads_of(state: ClusterState, facts: Mapping[NodeId, NodeFacts]) -> dict[NodeId, float]:
    """How many copies run for each core, of what a core can take."""
    copies = Counter(one.node for one in state.allocations.values() if one.desired is DesiredStatus.RUNNING)
    cores = {node: max(1.0, one.cpu_milli / 1000) for node, one in facts.items()}
    return {node: min(1.0, count / (COPIES_PER_CORE * cores.get(node, 1.0))) for node, count in copies.items()}
