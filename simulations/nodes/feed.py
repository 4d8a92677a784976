"""Both ends of the intent feed, by the rules of `node.group.feeding`: a node without a vote follows any that lives."""

from collections.abc import Callable, Iterable
from typing import Final

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
from node.group.freshness import Freshness
from node.mesh.purpose import Purpose
from orca.errors import PeerProtocolError
from orca.model.ids import NodeId, Term
from orca.model.units import Instant
from simulations.nodes.life import Life
from simulations.nodes.replica import ReplicaShell
from simulations.nodes.wires import Wire, Wires
from simulations.world import Chance

CURRENT_INTERVAL_S: Final = 1.0
SILENCE_S: Final = 5.0
STALE_S: Final = 10.0
RETRY_S: Final = 1.0


class Feed:
    """The feed of one life of a node; `others` gives the nodes to ask."""

    def __init__(
        self,
        node: NodeId,
        life: Life,
        wires: Wires,
        replica: ReplicaShell,
        chance: Chance,
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._node = node
        self._life = life
        self._wires = wires
        self._replica = replica
        self._chance = chance
        self._others = others
        self._copy = Copy(lambda: replica.machine, lambda: replica.applied)
        self.freshness = Freshness(Instant(0.0))
        self._readers: dict[Wire, Cursor] = {}
        self._source: Wire | None = None
        self._heard_at = self._in_state_at = 0.0
        self._reader: FeedReader | None = None
        self._known: tuple[Term, NodeId | None] = (Term(0), None)
        self._is_looking = False

    # ------------------------------------------------------------------------ serving

    def serve(self, wire: Wire, payload: bytes) -> None:
        """A reader says where its copy ends."""
        follow = decode_feed(payload)
        assert isinstance(follow, Follow), "a reader begins with where it stands"
        self._readers[wire] = Cursor(follow)
        self._pump(wire)

    def _pump(self, wire: Wire) -> None:
        """Send all that there is, and a word on how current it is."""
        cursor = self._readers[wire]
        if not wire.is_open:
            del self._readers[wire]
            return
        while (message := cursor.next(self._copy)) is not None:
            wire.send(self._node, encode_feed(message))
        wire.send(self._node, encode_feed(self._current()))

    def _current(self) -> Current:
        raft = self._replica.machine
        return Current(
            epoch=raft.epoch,
            commit_index=self._replica.applied,
            age_ms=round(self.age_s() * 1000),
            term=raft.term,
            leader=raft.leader,
        )

    def age_s(self) -> float:
        """How old this node's knowledge may be."""
        now = self._replica.local_now()
        contact_at = self._replica.machine.leader_contact_at
        if self._replica.is_leader:
            self.freshness.heard(now)
        elif contact_at is not None:
            self.freshness.heard(contact_at)
        return self.freshness.age_s(now)

    def applied(self) -> None:
        """The state is further: readers get what is new."""
        for wire in list(self._readers):
            self._pump(wire)

    # ------------------------------------------------------------------------ following

    def start(self) -> None:
        """Follow somebody whenever no leader feeds this node."""
        self.freshness = Freshness(self._replica.local_now())
        self._life.every(CURRENT_INTERVAL_S, self._tell_readers)
        self.look()

    def _tell_readers(self) -> None:
        for wire in list(self._readers):
            self._pump(wire)

    def look(self) -> None:
        """Whether somebody is to be followed now; also when the group has changed."""
        if self._is_looking:
            return
        pause_s = self._follow_if_needed()
        self._is_looking = True
        self._life.after(pause_s, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        self.look()

    def _follow_if_needed(self) -> float:
        """Seconds until the next look."""
        raft, now = self._replica.machine, self._replica.local_now()
        if is_fed(raft, now):
            self._leave()
            return fed_for_s(raft, now)
        if self._source is None:
            sources = sorted(self._others())
            if sources:
                self._begin(self._chance.pick(sources))
        elif self._is_useless():
            self._leave()
            return self._chance.uniform(RETRY_S / 4, RETRY_S)
        return RETRY_S

    def _is_useless(self) -> bool:
        """Whether the source is silent, behind itself, or said what never came into the state."""
        now = self._life.world.now
        if self._reader is not None and self._reader.index <= self._replica.applied:
            self._in_state_at = now
        is_silent = now - self._heard_at > SILENCE_S or now - self._in_state_at > SILENCE_S
        is_behind = self.freshness.age_s(self._replica.local_now()) > STALE_S and len(list(self._others())) > 1
        return is_silent or is_behind

    def _begin(self, source: NodeId) -> None:
        raft, applied = self._replica.machine, self._replica.applied
        self._reader = FeedReader(raft.epoch, applied, raft.term_of(applied) or Term(0))
        self._known = (raft.term, raft.leader)
        wire = self._source = self._wires.open(self._node, source, Purpose.INTENT)
        self._heard_at = self._in_state_at = self._life.world.now
        wire.on_payload[self._node] = lambda payload: self._life.do(lambda: self._hear(wire, payload))
        wire.on_broken[self._node] = lambda: self._life.do(lambda: self._lost(wire))
        wire.send(self._node, encode_feed(self._reader.follow()))

    def _lost(self, wire: Wire) -> None:
        if self._source is wire:
            self._source = None

    def _leave(self) -> None:
        wire, self._source = self._source, None
        if wire is not None:
            wire.close()

    def _hear(self, wire: Wire, payload: bytes) -> None:
        if self._source is not wire or self._reader is None:
            return
        self._heard_at = self._life.world.now
        if is_fed(self._replica.machine, self._replica.local_now()):
            self._leave()
            return
        try:
            news = self._reader.read(decode_feed(payload))
        except PeerProtocolError as error:
            self._life.world.note(f"{self._node} leaves its source: {error.message}")
            self._leave()
            return
        term, leader = self._known
        match news:
            case Learn(entries=entries):
                epoch = self._reader.epoch
                self._replica.learn(EntriesLearned(epoch=epoch, term=term, entries=entries, leader=leader))
            case Install(epoch=epoch, snapshot=snapshot):
                self._replica.learn(SnapshotLearned(epoch=epoch, snapshot=snapshot))
            case Current():
                if self._replica.applied >= news.commit_index:
                    self.freshness.heard(self._replica.local_now(), news.age_ms / 1000)
                if (news.term, news.leader) != self._known:
                    self._replica.learn(
                        EntriesLearned(epoch=news.epoch, term=news.term, entries=(), leader=news.leader)
                    )
                    self._known = (news.term, news.leader)
            case _:
                pass
