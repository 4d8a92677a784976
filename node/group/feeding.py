"""Intent streams between nodes: serving it to who asks, and following it without a vote."""

import math
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.feed import (
    Copy,
    Current,
    Cursor,
    FeedReader,
    Follow,
    Install,
    Learn,
    decode_feed,
    encode_feed,
    fed_for_s,
    is_fed,
)
from consensus.raft import EntriesLearned, SnapshotLearned
from node.bell import Bell
from node.group.freshness import Freshness
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import NodeUnreachableError, OrcaError, PeerProtocolError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from orca.sources import Clock

_log = structlog.get_logger("orca.group")
CURRENT_INTERVAL_S: Final = 1.0
SILENCE_S: Final = 5.0
"""A source says something each second; one that is silent for so long is left."""
STALE_S: Final = 10.0
"""A source that is itself so far behind is left, when there is another."""
RETRY_S: Final = 1.0

Connect = Callable[[NodeId, Purpose], AbstractAsyncContextManager[FrameStream]]


class IntentFeed:
    """Both ends. `connect` is the mesh's; `others` gives the nodes to ask, those that live if that is known.

    This node is none of them. `regrouped` is rung when another node leads, or others belong to the group.
    """

    def __init__(
        self,
        replica: ReplicaDriver,
        connect: Connect,
        clock: Clock,
        freshness: Freshness,
        *,
        others: Callable[[], Iterable[NodeId]],
        regrouped: Bell,
    ) -> None:
        self._regrouped = regrouped
        self._replica = replica
        self._connect = connect
        self._clock = clock
        self._freshness = freshness
        self._others = others
        self._fed_at: Instant | None = None
        self.source: NodeId | None = None
        """Whom this node follows at present; None while the leader itself feeds it."""

    def fed_age_s(self) -> float:
        """How long ago the source that is followed said that this node has all that it has; infinite without one."""
        return math.inf if self.source is None or self._fed_at is None else self._clock.now() - self._fed_at

    def age_s(self) -> float:
        """How old this node's knowledge may be."""
        contact_at = self._replica.raft.leader_contact_at
        if self._replica.is_leader:
            self._freshness.heard(self._clock.now())
        elif contact_at is not None:
            self._freshness.heard(contact_at)
        return self._freshness.age_s(self._clock.now())

    @property
    def has_heard(self) -> bool:
        """Whether the group, or somebody who follows it, was heard since this node started."""
        return self._freshness.has_heard or self.age_s() == 0.0

    # ------------------------------------------------------------------------ serving

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """One reader, until it goes."""
        follow = decode_feed(await frames.receive())
        if not isinstance(follow, Follow):
            raise PeerProtocolError(f"{peer} began to follow with something else")
        cursor, source = Cursor(follow), Copy(lambda: self._replica.raft, lambda: self._replica.applied_index)
        while True:
            message = cursor.next(source)
            if message is not None:
                with trio.move_on_after(SILENCE_S) as scope:
                    await frames.send((encode_feed(message),))
                if scope.cancelled_caught:
                    raise NodeUnreachableError(f"{peer} takes nothing any more")
                continue
            await frames.send((encode_feed(self._current()),))
            with trio.move_on_after(CURRENT_INTERVAL_S):
                await self._replica.wait_applied(LogIndex(max(cursor.index, self._replica.applied_index) + 1))

    def _current(self) -> Current:
        raft = self._replica.raft
        return Current(
            epoch=raft.epoch,
            commit_index=self._replica.applied_index,
            age_ms=round(self.age_s() * 1000),
            term=raft.term,
            leader=raft.leader,
        )

    # ---------------------------------------------------------------------- following

    async def follow(self) -> None:
        """Follow somebody whenever no leader feeds this node, until cancelled."""
        while True:
            heard = self._regrouped.rings
            if is_fed(self._replica.raft, self._clock.now()):
                self.source = None
                await self._regrouped.wait(heard, fed_for_s(self._replica.raft, self._clock.now()))
                continue
            if not (sources := list(self._others())):
                self.source = None
                await trio.sleep(RETRY_S)
                continue
            source = random.choice(sources)
            try:
                await self._follow(source)
            except OrcaError as error:
                _log.debug("a source of intent was lost", source=source, reason=error.message)
                await trio.sleep(random.uniform(RETRY_S / 4, RETRY_S))

    async def _follow(self, source: NodeId) -> None:
        raft = self._replica.raft
        applied = self._replica.applied_index
        reader = FeedReader(raft.epoch, applied, raft.term_of(applied) or Term(0))
        async with self._connect(source, Purpose.INTENT) as frames:
            self.source = source
            await frames.send((encode_feed(reader.follow()),))
            known = (raft.term, raft.leader)
            while not is_fed(self._replica.raft, self._clock.now()):
                with trio.move_on_after(SILENCE_S) as scope:
                    batch = await frames.receive_some()
                if scope.cancelled_caught or not batch:
                    raise NodeUnreachableError(f"{source} says nothing any more")
                for payload in batch:
                    known = await self._take(reader, payload, known)
                if self._freshness.age_s(self._clock.now()) > STALE_S and len(list(self._others())) > 1:
                    raise NodeUnreachableError(f"{source} is behind itself")

    async def _take(
        self, reader: FeedReader, payload: bytes, known: tuple[Term, NodeId | None]
    ) -> tuple[Term, NodeId | None]:
        """One message of a source; waits until it is in the state, which is what slows a fast source."""
        news = reader.read(decode_feed(payload))
        match news:
            case Learn(entries=entries):
                term, leader = known
                self._replica.learn(EntriesLearned(epoch=reader.epoch, term=term, entries=entries, leader=leader))
                await self._wait(entries[-1].index)
            case Install(epoch=epoch, snapshot=snapshot):
                self._replica.learn(SnapshotLearned(epoch=epoch, snapshot=snapshot))
                await self._wait(snapshot.meta.last_index)
            case Current():
                if self._replica.applied_index >= news.commit_index:
                    self._freshness.heard(self._clock.now(), news.age_ms / 1000)
                    self._fed_at = Instant(self._clock.now() - news.age_ms / 1000)
                if (news.term, news.leader) != known:
                    event = EntriesLearned(epoch=news.epoch, term=news.term, entries=(), leader=news.leader)
                    self._replica.learn(event)
                return news.term, news.leader
        return known

    async def _wait(self, index: LogIndex) -> None:
        with trio.move_on_after(SILENCE_S) as scope:
            await self._replica.wait_applied(index)
        if scope.cancelled_caught:
            raise PeerProtocolError(f"entry {index} was learnt and is not in the state; beginning anew")
