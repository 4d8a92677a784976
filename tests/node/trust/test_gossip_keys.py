"""The gossip key over the mesh: who makes one, who gets it, and what wins when two come about at once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import trio.testing

from consensus.state.cluster import ClusterState
from consensus.state.commands import ChangeSettings, RemoveNode
from node.changes import raise_refusal
from node.membership.kept import KeptGossip
from node.membership.ring import GossipRing
from node.trust.gossip_keys import GossipKeyKeeper
from node.trust.kept import OwnTrust
from node.trust.messages import GossipKeys
from orca.config import GossipSection
from orca.errors import ConflictError, NotAvailableError
from orca.model.ids import NodeId
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, ask, done
from tests.node.trust.test_kept import store

OLD, NEW = b"o" * 32, b"n" * 32


class Node:
    """All that a keeper works on, in a group that decides at once while it `has_quorum`."""

    def __init__(self, cluster: Cluster, ring: GossipRing) -> None:
        self.cluster = cluster
        self.ring = ring
        self.own = OwnTrust(certificate=b"", authorities=(), gossip_key_version=1)
        self.is_leader = True
        self.has_quorum = True
        self.others: list[GossipKeyKeeper] = []
        self.keeper = GossipKeyKeeper(
            ring,
            self,
            self,
            self,
            change_own=self.change_own,
            change_settings=self.change_settings,
            wake=lambda: None,
        )

    @property
    def state(self) -> ClusterState:
        return self.cluster.state

    async def gossip_keys(self, version: int) -> GossipKeys:
        found = [other.offered for other in self.others if other.offered.version >= version]
        if not found:
            raise NotAvailableError("nobody has it")
        return found[0]

    async def change_own(self, *, gossip_key_version: int) -> None:
        self.own = msgspec.structs.replace(self.own, gossip_key_version=gossip_key_version)

    async def change_settings(self, *, version: int, removals: int | None) -> None:
        if not self.has_quorum:
            raise NotAvailableError("no leader")
        more = {} if removals is None else {"gossip_key_removals": removals}
        raise_refusal(ask(self.cluster, ChangeSettings, gossip_key_version=version, **more))


@pytest.fixture
def two(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> Iterator[list[Node]]:
    """Two nodes of one cluster, which have `OLD`; the first leads."""
    cluster = Cluster()
    for number in range(3):
        admit(cluster, f"n-{number}")
    with ExitStack() as stack:
        found = []
        for number in range(2):
            path = tmp_path / str(number)
            path.mkdir()
            kept = KeptGossip(stack.enter_context(store(path)))
            kept.keep_keys((OLD,))
            ring = GossipRing(GossipSection(host="127.0.0.1"), kept)
            ring.load()
            found.append(Node(cluster, ring))
        one, other = found
        one.others, other.others = [other.keeper], [one.keeper]
        other.is_leader = False
        yield found


def remove(node: Node, name: str) -> None:
    done(node.cluster, RemoveNode, node=NodeId(name))


async def test_a_removal_gets_a_key_that_nobody_had_and_the_other_node_asks_for_it(two: list[Node]) -> None:
    one, other = two
    remove(one, "n-2")
    await one.keeper.rotate_for_removed()
    await one.keeper.rotate_for_removed()
    (key,) = one.ring.keys
    assert key != OLD
    await other.keeper.keep()
    assert other.ring.keys == (key,)
    assert other.own.gossip_key_version == 2


async def test_a_rotation_reaches_who_does_not_hear_gossip_and_a_removal_after_it_gets_a_key_of_its_own(
    two: list[Node],
) -> None:
    one, other = two
    await one.keeper.rotated(NEW, one.keeper.version)
    assert one.ring.keys == (NEW,)
    await other.keeper.keep()
    assert other.ring.keys == (NEW,)
    remove(one, "n-2")
    await one.keeper.rotate_for_removed()
    (key,) = one.ring.keys
    assert key not in (OLD, NEW), "who was removed may know both"


async def test_of_a_removal_and_a_rotation_at_once_the_removal_wins(two: list[Node]) -> None:
    one, other = two
    since = other.keeper.version
    remove(one, "n-2")
    await one.keeper.rotate_for_removed()
    with pytest.raises(ConflictError, match="another key"):
        await other.keeper.rotated(NEW, since)
    await other.keeper.keep()
    assert other.ring.keys == one.ring.keys
    assert NEW not in other.ring.keys


async def test_a_rotation_that_the_group_cannot_hear_of_is_told_as_soon_as_it_can(two: list[Node]) -> None:
    one, other = two
    one.has_quorum = False
    with pytest.raises(NotAvailableError):
        await one.keeper.rotated(NEW, one.keeper.version)
    assert one.ring.keys == (NEW,)
    one.has_quorum = True
    await one.keeper.keep()
    await other.keeper.keep()
    assert other.ring.keys == (NEW,)


async def test_a_key_that_could_not_be_decided_is_not_offered(two: list[Node]) -> None:
    one, _ = two
    remove(one, "n-2")
    one.has_quorum = False
    with pytest.raises(NotAvailableError):
        await one.keeper.rotate_for_removed()
    assert one.keeper.offered == GossipKeys(keys=(OLD,), version=1)
