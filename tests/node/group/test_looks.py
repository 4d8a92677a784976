"""When the keeper looks at the group; what it decides then is tested with `consensus.subgroup`."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import trio
import trio.testing

from consensus.driver import ReplicaDriver
from consensus.state.records import NodeRecord
from consensus.storage import Membership
from consensus.subgroup import SubgroupConfig
from node.bell import Bell
from node.group.keeper import INTERVAL_S, SETTLED_S, GroupKeeper
from node.membership.sighting import Sighting
from orca.model.ids import NodeId
from orca.model.units import Instant, WallMs
from orca.model.view import MemberState

OWN, LIVING, DEAD = NodeId("n-a"), NodeId("n-b"), NodeId("n-c")


class VirtualClock:
    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(0)


class Group:
    """A group of which this node leads; every look asks gossip who is there."""

    def __init__(self, *voters: NodeId) -> None:
        self.changed = Bell()
        self.looks: list[float] = []
        membership = Membership(voters=voters)
        nodes: dict[NodeId, NodeRecord] = {}
        self.replica = SimpleNamespace(
            is_leader=True,
            state=SimpleNamespace(nodes=nodes, allocations={}),
            raft=SimpleNamespace(membership=membership, progress=list),
        )
        self.keeper = GroupKeeper(
            OWN,
            VirtualClock(),
            cast("ReplicaDriver", self.replica),
            seen=self._seen,
            facts=dict,
            record=lambda *_: None,
            config=SubgroupConfig(),
            changed=self.changed,
        )

    def _seen(self) -> Mapping[NodeId, Sighting]:
        self.looks.append(trio.current_time())
        alive = Sighting(node=LIVING, name="b", zone="", state=MemberState.ALIVE, state_age_s=99.0)
        return {LIVING: alive}

    async def watch(self, seconds: float) -> int:
        """How often it looked in that time."""
        before = len(self.looks)
        await trio.sleep(seconds)
        return len(self.looks) - before


def admit(group: Group, node: NodeId) -> None:
    record = NodeRecord(id=node, name=str(node), schema=1, admitted_at_ms=WallMs(0))
    group.replica.state.nodes[node] = record


async def test_a_settled_group_is_looked_at_rarely_and_at_once_when_something_changes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    group = Group(OWN)
    admit(group, OWN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.keeper.run)
        await trio.sleep(5 * INTERVAL_S)
        assert await group.watch(10 * SETTLED_S) <= 10
        await trio.sleep(2 * INTERVAL_S)
        group.changed.ring()
        assert await group.watch(INTERVAL_S) == 1
        group.replica.is_leader = False
        group.changed.ring()
        assert await group.watch(10 * SETTLED_S) == 0, "it is another's duty"
        nursery.cancel_scope.cancel()


async def test_a_group_with_a_dead_voter_is_looked_at_each_second(autojump_clock: trio.testing.MockClock) -> None:
    group = Group(OWN, LIVING, DEAD)
    for node in (OWN, LIVING, DEAD):
        admit(group, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.keeper.run)
        assert await group.watch(30 * INTERVAL_S) >= 28
        nursery.cancel_scope.cancel()
