"""The leader keeps the group right, on a virtual clock: drivers in memory, and gossip that a test makes up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from consensus.state.commands import AdmitNode
from consensus.subgroup import SubgroupConfig
from node.group.keeper import EXCUSED_S, GroupKeeper
from node.membership.sighting import Sighting
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId, StateRevision
from orca.model.quorum_view import QuorumRole
from orca.model.units import WallMs
from orca.model.view import MemberState, Observation
from tests.consensus.driver_group import Clock, Peer, group, until

CONFIG = SubgroupConfig(replace_after_s=20.0)


class Cluster:
    """One founder, and nodes that it admitted; each has a keeper, and all see the same of each other."""

    def __init__(self, founder: Peer) -> None:
        self.made = founder.group
        self.founder = founder
        self.dead: dict[NodeId, float] = {}
        self.keepers: dict[NodeId, GroupKeeper] = {}
        self.words: list[str] = []

    def seen(self) -> dict[NodeId, Sighting]:
        now = trio.current_time()
        return {
            node: Sighting(
                node=node,
                name=f"name-{node}",
                zone="",
                state=MemberState.FAILED if node in self.dead else MemberState.ALIVE,
                state_age_s=now - self.dead.get(node, -1_000.0),
            )
            for node in self.made.peers
        }

    def record(self, kind: EventKind, words: str, _severity: Severity) -> None:
        assert kind is EventKind.GROUP_CHANGED
        self.words.append(words)

    def keep(self, peer: Peer) -> None:
        keeper = self.keepers[peer.node] = GroupKeeper(
            peer.node,
            Clock(),
            peer.driver,
            seen=self.seen,
            facts=dict,
            record=self.record,
            config=CONFIG,
            changed=peer.decided,
        )
        self.made.nursery.start_soon(keeper.run)

    async def admit(self, name: str) -> Peer:
        peer = self.made.add(name, frozenset())
        leader = await self.made.leader()
        await leader.driver.propose(AdmitNode(node=peer.node, name=name, at_ms=WallMs(0)))
        self.keep(peer)
        return peer

    def die(self, peer: Peer) -> None:
        peer.crash()
        self.made.isolate(peer)
        self.dead[peer.node] = trio.current_time()
        for other in self.made.peers.values():
            other.decided.ring()  # gossip says so

    @property
    def voters(self) -> set[NodeId]:
        leaders = [peer for peer in self.made.peers.values() if peer.driver.is_leader and peer.node not in self.dead]
        return set(leaders[0].driver.raft.membership.voters) if leaders else set()


@asynccontextmanager
async def cluster_of(*names: str) -> AsyncIterator[Cluster]:
    async with group(count=1) as (_made, peers):
        cluster = Cluster(peers[0])
        cluster.keep(peers[0])
        await cluster.founder.driver.propose(AdmitNode(node=peers[0].node, name="v0", at_ms=WallMs(0)))
        for name in names:
            await cluster.admit(name)
        yield cluster


def ids(*names: str) -> set[NodeId]:
    return set(map(NodeId, names))


async def test_group_of_one_becomes_one_of_three_when_there_are_three_nodes(autojump_clock: object) -> None:
    async with cluster_of("w1") as cluster:
        await trio.sleep(10)
        assert cluster.voters == ids("v0"), "two voters survive no more failures than one"
        await cluster.admit("w2")
        await until(lambda: cluster.voters == ids("v0", "w1", "w2"), "all three vote")
        assert [words.partition(":")[0] for words in cluster.words] == [
            "name-w1 is to vote and gets the log",
            "name-w2 is to vote and gets the log",
            "name-w1 votes",
            "name-w2 votes",
        ]


async def test_voter_that_is_dead_for_good_is_replaced_and_one_that_comes_back_in_time_is_not(
    autojump_clock: object,
) -> None:
    async with cluster_of("w1", "w2", "w3") as cluster:
        await until(lambda: len(cluster.voters) == 3, "three vote")
        before = cluster.voters
        victim = next(peer for peer in cluster.made.peers.values() if peer.node in before and not peer.driver.is_leader)
        cluster.die(victim)
        await trio.sleep(CONFIG.replace_after_s / 2)
        assert cluster.voters == before
        await trio.sleep(CONFIG.replace_after_s)
        spare = ids("v0", "w1", "w2", "w3") - before
        await until(lambda: cluster.voters == before - {victim.node} | spare, "the spare node votes in its place")


async def test_leader_that_dies_leaves_the_duty_to_the_next(autojump_clock: object) -> None:
    async with cluster_of("w1", "w2", "w3") as cluster:
        await until(lambda: len(cluster.voters) == 3, "three vote")
        cluster.die(cluster.founder)
        await until(lambda: cluster.founder.node not in cluster.voters and len(cluster.voters) == 3, "it is replaced")


async def test_who_is_about_to_leave_loses_its_seat_first_and_hands_over_leading(autojump_clock: object) -> None:
    async with cluster_of("w1", "w2", "w3") as cluster:
        await until(lambda: len(cluster.voters) == 3, "three vote")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say_goodbye, cluster, cluster.founder.node)
            await until(lambda: cluster.founder.node not in cluster.voters and len(cluster.voters) == 3, "it may go")
            assert not cluster.founder.driver.is_leader
            nursery.cancel_scope.cancel()


async def _say_goodbye(cluster: Cluster, node: NodeId) -> None:
    while True:  # whoever leads hears it
        for keeper in cluster.keepers.values():
            keeper.excuse(node)
        await trio.sleep(1)


async def test_who_does_not_leave_after_all_is_needed_again(autojump_clock: object) -> None:
    async with cluster_of("w1", "w2") as cluster:
        await until(lambda: len(cluster.voters) == 3, "three vote")
        cluster.keepers[cluster.founder.node].excuse(NodeId("w1"))
        await trio.sleep(EXCUSED_S * 3)
        assert cluster.voters == ids("v0", "w1", "w2")


async def test_people_are_told_who_votes_why_and_how_far_each_is(autojump_clock: object) -> None:
    async with cluster_of("w1", "w2", "w3") as cluster:
        await until(lambda: len(cluster.voters) == 3, "three vote")
        await trio.sleep(2)
        observation = Observation(observer=cluster.founder.node, at_ms=WallMs(0), state_revision=StateRevision(0))
        told = cluster.keepers[cluster.founder.node].describe(observation)
        assert (told.wanted, told.voters_alive, told.has_quorum) == (3, 3, True)
        by_id = {member.id: member for member in told.members}
        assert by_id[cluster.founder.node].role is QuorumRole.LEADER
        voters = [by_id[node] for node in cluster.voters - {cluster.founder.node}]
        assert [(member.role, member.lag) for member in voters] == [(QuorumRole.VOTER, 0)] * 2
        assert all(member.reason for member in voters)
        follower = next(keeper for node, keeper in cluster.keepers.items() if node == voters[0].id)
        assert follower.describe(observation).leader == cluster.founder.node
        assert all(member.lag is None for member in follower.describe(observation).members), "only a leader knows"
