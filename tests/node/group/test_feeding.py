"""Intent streams between nodes on a virtual clock: who has no vote has all, whoever it comes from."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from consensus.feed import Current, Follow, decode_feed, encode_feed
from consensus.feed.copy import UNLED_S
from consensus.raft import AddLearner
from consensus.state.commands import AdmitNode
from node.group.feeding import SILENCE_S, STALE_S, Connect, IntentFeed
from node.group.freshness import Freshness
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import NodeUnreachableError, OrcaError, PeerProtocolError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import WallMs
from tests.consensus.driver_group import Clock, Group, Peer, group, until

_InMemory = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Feeds:
    """The feed of each node of a group; connections are streams in memory, and a node can be cut off from all."""

    def __init__(self, made: Group) -> None:
        self.made = made
        self.feeds: dict[NodeId, IntentFeed] = {}
        self.sources: list[NodeId] = []
        self.away: set[NodeId] = set()
        self.mute: set[NodeId] = set()
        self.connected: list[tuple[NodeId, NodeId]] = []
        self.open: list[_InMemory] = []

    def add(self, peer: Peer) -> IntentFeed:
        def others() -> list[NodeId]:
            return [node for node in self.sources if node != peer.node and node not in self.away]

        clock = Clock()
        feed = IntentFeed(
            peer.driver,
            self._connector(peer.node),
            clock,
            Freshness(clock.now()),
            others=others,
            regrouped=peer.regrouped,
        )
        self.feeds[peer.node] = feed
        return feed

    def _connector(self, reader: NodeId) -> Connect:
        @asynccontextmanager
        async def connect(to: NodeId, purpose: Purpose) -> AsyncIterator[FrameStream]:
            assert purpose is Purpose.INTENT
            if to in self.away:
                raise NodeUnreachableError(f"{to} is away")
            self.connected.append((reader, to))
            here, there = trio.testing.memory_stream_pair()
            self.made.nursery.start_soon(self._serve, reader, to, FrameStream(there))
            self.open.append(here)
            try:
                yield FrameStream(here)
            finally:
                here.send_stream.close()
                here.receive_stream.close()

        return connect

    async def _serve(self, reader: NodeId, to: NodeId, frames: FrameStream) -> None:
        """It ends when the reader hangs up."""
        if to in self.mute:
            return
        with suppress(NodeUnreachableError):
            await self.feeds[to].serve(reader, frames)


@asynccontextmanager
async def followed(**settings: int) -> AsyncIterator[tuple[Feeds, Peer, Peer]]:
    """Three voters, and a node without a vote that follows them: the feeds, the leader, the follower."""
    async with group(**settings) as (made, peers):
        feeds = Feeds(made)
        for peer in peers:
            feeds.add(peer)
        feeds.sources = [peer.node for peer in peers]
        outsider = made.add("w", frozenset())
        made.nursery.start_soon(feeds.add(outsider).follow)
        yield feeds, await made.leader(), outsider


async def test_node_without_a_vote_gets_what_was_there_and_what_comes(autojump_clock: object) -> None:
    async with followed() as (feeds, leader, outsider):
        await leader.admit("early")
        await until(lambda: outsider.names == {"early"}, "the follower has what was there")
        for number in range(50):
            await leader.admit(f"x{number}")
        await until(lambda: outsider.names == leader.names, "the follower has what came")
        assert outsider.applied_names[0] == "early"
        assert len(outsider.applied_names) == 51, "each command was applied once"
        assert outsider.driver.leader == leader.node
        assert len(feeds.connected) == 1


async def test_follower_says_how_old_its_knowledge_may_be(autojump_clock: object) -> None:
    async with followed() as (feeds, leader, outsider):
        feed = feeds.feeds[outsider.node]
        await leader.admit("x")
        await until(lambda: outsider.names == {"x"}, "the follower has it")
        await trio.sleep(3)
        assert feed.age_s() < 2.5, "a source says each second that nothing is new"
        assert feed.fed_age_s() < 2.5
        feeds.away.update(feeds.sources)
        feeds.open[-1].receive_stream.put_eof()
        age_s = feed.age_s()
        await trio.sleep(20)
        assert feed.age_s() == pytest.approx(age_s + 20, abs=0.1)
        assert feed.fed_age_s() == math.inf, "it follows nobody"


async def test_source_that_dies_is_left_for_another_and_nothing_is_missed(autojump_clock: object) -> None:
    async with group() as (made, peers):
        feeds = Feeds(made)
        for peer in peers:
            feeds.add(peer)
        leader = await made.leader()
        source = next(peer for peer in peers if peer is not leader)
        feeds.sources = [source.node]
        outsider = made.add("w", frozenset())
        made.nursery.start_soon(feeds.add(outsider).follow)
        await leader.admit("before")
        await until(lambda: outsider.names == {"before"}, "the follower has it")
        source.crash()
        feeds.open[-1].receive_stream.put_eof()
        feeds.sources = [leader.node]
        await leader.admit("after")
        await until(lambda: outsider.names == {"before", "after"}, "the follower has all of it")
        assert outsider.applied_names == ["before", "after"], "each once"
        assert feeds.connected == [(outsider.node, source.node), (outsider.node, leader.node)]


async def test_source_that_says_nothing_is_left_after_a_while(autojump_clock: object) -> None:
    async with group() as (made, peers):
        feeds = Feeds(made)
        for peer in peers:
            feeds.add(peer)
        silent = peers[0].node
        feeds.mute, feeds.sources = {silent}, [silent]
        outsider = made.add("w", frozenset())
        began = trio.current_time()
        made.nursery.start_soon(feeds.add(outsider).follow)
        await until(lambda: feeds.connected == [(outsider.node, silent)], "it asked")
        await (await made.leader()).admit("x")
        feeds.sources = [peers[1].node]
        await until(lambda: outsider.names == {"x"}, "it asked another")
        assert SILENCE_S <= trio.current_time() - began < SILENCE_S + 3


async def test_source_that_is_behind_itself_is_left_for_another(autojump_clock: object) -> None:
    async with followed() as (feeds, leader, outsider):
        await leader.admit("x")
        await until(lambda: outsider.names == {"x"}, "the follower has it")
        source = feeds.feeds[outsider.node].source
        assert source is not None
        feeds.made.isolate(feeds.made.peers[source])  # readers still reach it
        rest = [node for node in feeds.sources if node != source]
        await until(lambda: any(feeds.made.peers[node].driver.is_leader for node in rest), "another leads")
        new = next(feeds.made.peers[node] for node in rest if feeds.made.peers[node].driver.is_leader)
        await new.admit("y")
        with trio.fail_after(4 * STALE_S):
            await until(lambda: outsider.names == {"x", "y"}, "it went to one that knows more")


async def test_node_far_behind_begins_with_the_snapshot(autojump_clock: object) -> None:
    async with group(log_entries_kept=10) as (made, peers):
        leader = await made.leader()
        for number in range(3):
            names = [f"x{number}" for number in range(number * 500, number * 500 + 500)]
            ends = await leader.driver.propose_all(
                [AdmitNode(node=NodeId(f"n-{name}"), name=name, at_ms=WallMs(0)) for name in names]
            )
            assert not any(isinstance(end, OrcaError) for end in ends)
        await until(lambda: leader.driver.raft.snapshot_index > 1000, "the log was compacted, in memory too")
        feeds = Feeds(made)
        for peer in peers:
            feeds.add(peer)
        feeds.sources = [leader.node]
        outsider = made.add("w", frozenset())
        made.nursery.start_soon(feeds.add(outsider).follow)
        await until(lambda: outsider.names == leader.names, "the follower has all")
        assert outsider.restores >= 1


async def test_who_gets_the_log_from_the_leader_follows_nobody_until_no_leader_is_heard(autojump_clock: object) -> None:
    async with group() as (made, peers):
        feeds = Feeds(made)
        for peer in peers:
            feeds.add(peer)
        feeds.sources = [peer.node for peer in peers]
        leader = await made.leader()
        learner = made.add("w", frozenset())
        await leader.driver.change_group(AddLearner(node=learner.node))
        await until(lambda: learner.node in learner.driver.raft.membership.members, "the leader feeds it")
        feed = feeds.add(learner)
        made.nursery.start_soon(feed.follow)
        await trio.sleep(10)
        assert feeds.connected == []
        assert feed.fed_age_s() == math.inf
        made.isolate(learner)
        await trio.sleep(UNLED_S + 3)
        await leader.admit("x")
        await until(lambda: learner.names == {"x"}, "it has it from somebody")
        assert feeds.connected


async def test_who_asks_for_something_else_is_refused(autojump_clock: object) -> None:
    async with group() as (made, peers):
        feed = Feeds(made).add(peers[0])
        here, there = trio.testing.memory_stream_pair()
        word = Current(epoch=0, commit_index=LogIndex(0), age_ms=0, term=Term(0), leader=None)
        await FrameStream(here).send((encode_feed(word),))
        with pytest.raises(PeerProtocolError, match="began to follow with something else"):
            await feed.serve(NodeId("n-x"), FrameStream(there))


async def test_reader_that_takes_nothing_does_not_hold_its_source_for_ever(autojump_clock: object) -> None:
    async with group() as (made, peers):
        leader = await made.leader()
        for number in range(300):
            await leader.admit(f"x{number}" + "long" * 50)
        feed = Feeds(made).add(leader)
        here, there = trio.testing.lockstep_stream_pair()  # it takes what is read, and nothing before
        async with trio.open_nursery() as nursery:
            follow = Follow(epoch=leader.driver.raft.epoch, after=LogIndex(0), term=Term(0))
            nursery.start_soon(FrameStream(here).send, (encode_feed(follow),))
            began = trio.current_time()
            with pytest.raises(NodeUnreachableError, match="takes nothing any more"):
                await feed.serve(NodeId("n-x"), FrameStream(there))
            assert trio.current_time() - began == pytest.approx(SILENCE_S, abs=0.5)
        assert peers
        assert decode_feed(encode_feed(follow)) == follow
