"""Members with their intents: what SWIM reports, what peers intend, who is dialled and who is forgotten."""

from collections.abc import Callable
from typing import Final

from gossip.codec import CodecError
from gossip.codec.serf_frames import decode_tags, encode_serf
from gossip.messages import JoinIntent, LeaveIntent, SerfState
from gossip.serf.clock import LamportClock
from gossip.serf.coalesce import MemberCoalescer
from gossip.serf.config import SerfConfig
from gossip.serf.coordinates import Coordinates
from gossip.serf.effects import Rejoin, SavedPeer, StatusChanged
from gossip.serf.members import IntentVerdict, Members, MemberStatus, SerfMember, StatusChange
from gossip.serf.outbox import Outbox
from gossip.serf.queries import Identity
from gossip.serf.redial import Redialler
from gossip.serf.view import MemberView
from orca.errors import NotFoundError
from orca.model.units import Instant
from orca.sources import Rng

SAVED_PEERS_MAX: Final = 1024
_NEVER: Final = Instant(float("inf"))


class Membership:
    """The member clock, the member table, and everything that changes it."""

    def __init__(
        self, own: Identity, config: SerfConfig, rng: Rng, outbox: Outbox, coordinates: Coordinates, now: Instant
    ) -> None:
        self.clock = LamportClock()
        self.members = Members()
        self.is_leaving = False
        """Whether we mean to go: then nobody's word about our leaving is refuted."""
        self._own = own
        self._config = config
        self._outbox = outbox
        self._coordinates = coordinates
        self._redialler = Redialler(rng)
        self._reap_at = Instant(now + config.reap_interval_s)
        self._prune_at: dict[str, Instant] = {}
        self._to_save: tuple[SavedPeer, ...] | None = None
        self._coalescer: MemberCoalescer | None = None
        if config.member_coalesce_s > 0:
            self._coalescer = MemberCoalescer(config.member_coalesce_s, config.member_quiet_s)
        member = self.members.join(own.node, own.address, own.tags, own.version, now)
        assert member is not None, "an empty table has room for ourselves"
        self._tell(StatusChange.JOINED, member, now)

    @property
    def others_alive(self) -> int:
        """How many members besides us are alive."""
        own = self.members.get(self._own.node)
        return self.members.count(MemberStatus.ALIVE) - (own is not None and own.status is MemberStatus.ALIVE)

    @property
    def group_size(self) -> int:
        """How many members broadcasts have to reach: all but those that left."""
        return len(self.members) - self.members.count(MemberStatus.LEFT)

    def departed(self) -> list[SerfMember]:
        """Members that left, by name."""
        return self.members.in_status(MemberStatus.LEFT)

    def joined(self, view: MemberView, now: Instant) -> None:
        """SWIM found a member alive."""
        known = self.members.get(view.node)
        if known is not None and view.node == self._own.node and known.status is MemberStatus.ALIVE:
            return  # we knew that before SWIM did
        member = self.members.join(view.node, view.address, self._tags_of(view), view.version, now)
        if member is None:
            self._outbox.drop("member_table_full")
            return
        self._redialler.find(view.node)
        self._redialler.find_at(view.address)
        self._tell(StatusChange.JOINED, member, now)

    def updated(self, view: MemberView, now: Instant) -> None:
        """Tags, address or version of a member changed."""
        known = self.members.get(view.node)
        tags = self._tags_of(view)
        if known is None or (known.tags, known.address, known.version) == (tags, view.address, view.version):
            return
        member = self.members.update(view.node, view.address, tags, view.version)
        assert member is not None, "it is in the table"
        self._tell(StatusChange.UPDATED, member, now)

    def retagged(self, now: Instant) -> None:
        """Our own tags changed."""
        member = self.members.update(self._own.node, self._own.address, self._own.tags, self._own.version)
        if member is not None:
            self._tell(StatusChange.UPDATED, member, now)

    def left(self, view: MemberView, now: Instant, *, is_graceful: bool) -> None:
        """SWIM found a member dead, or heard its farewell."""
        change = self.members.leave(view.node, now, is_graceful=is_graceful)
        if change is None:
            return
        kind, member = change
        self._coordinates.forget(member.node)
        if kind is StatusChange.FAILED and member.node != self._own.node:
            self._redialler.lose(member.node, member.address, now)
        self._tell(kind, member, now)

    def leave_intent(self, intent: LeaveIntent, now: Instant) -> bool:
        """Apply one; True when it is news to pass on."""
        if not self._is_credible(intent.ltime):
            return False
        self.clock.witness(intent.ltime)
        own = self.members.get(self._own.node)
        if intent.node == self._own.node and not self.is_leaving:
            if own is not None and intent.ltime > own.status_ltime:  # of an earlier life, or somebody's mistake
                self.announce_join(now)
            return False
        verdict = self.members.leave_intent(intent, now)
        self._follow(verdict, now)
        return verdict.is_news

    def join_intent(self, intent: JoinIntent, now: Instant) -> bool:
        """Apply one; True when it is news to pass on."""
        if not self._is_credible(intent.ltime):
            return False
        self.clock.witness(intent.ltime)
        return self.members.join_intent(intent, now).is_news

    def pass_on(self, node: str, encoded: bytes) -> None:
        """Broadcast a received intent about `node`; a newer one replaces an older."""
        self._outbox.intents.put(node, encoded)

    def announce_join(self, now: Instant) -> None:
        """Say that we are here to stay, with a time later than every claim of the contrary."""
        intent = JoinIntent(ltime=self.clock.stamp(), node=self._own.node)
        self.members.join_intent(intent, now)
        self.pass_on(intent.node, encode_serf(intent))

    def announce_leave(self, now: Instant, on_done: Callable[[], None]) -> None:
        """Say that we go; `on_done` is called when that was said often enough, or at once when nobody is there."""
        self.is_leaving = True
        intent = LeaveIntent(ltime=self.clock.stamp(), node=self._own.node)
        self.members.leave_intent(intent, now)
        if self.others_alive:
            self._outbox.intents.put(intent.node, encode_serf(intent), on_done)
        else:
            on_done()

    def force_leave(self, node: str, now: Instant, *, is_prune: bool) -> None:
        """A failed member will not come back. NotFoundError for an unknown name."""
        if self.members.get(node) is None:
            names = ", ".join(member.node for member in self.members.in_status(MemberStatus.FAILED)) or "none"
            raise NotFoundError(f"no member is called {node!r}; failed members: {names}")
        intent = LeaveIntent(ltime=self.clock.stamp(), node=node, is_prune=is_prune)
        self._follow(self.members.leave_intent(intent, now), now)
        if self.others_alive:
            self.pass_on(node, encode_serf(intent))

    def merge(self, state: SerfState, now: Instant) -> None:
        """Apply a peer's view: its departed members first, so that times do not rise in the wrong order.

        A departed member comes without the time of its leave. That was after its last
        known status, so one past it is taken.
        """
        departed = dict.fromkeys(state.left_members)
        for node in departed:
            self.leave_intent(LeaveIntent(ltime=state.status_ltimes.get(node, 0) + 1, node=node), now)
        for node, ltime in state.status_ltimes.items():
            if node not in departed:
                self.join_intent(JoinIntent(ltime=ltime, node=node), now)

    def look_for(self, peers: tuple[SavedPeer, ...], now: Instant) -> None:
        """Dial the members of our life before a restart."""
        self._to_save = None
        for peer in peers[:SAVED_PEERS_MAX]:
            if peer.node != self._own.node and peer.address != self._own.address:
                self._redialler.lose(peer.node, peer.address, now, is_urgent=True)

    def peers_to_save(self) -> tuple[SavedPeer, ...]:
        """Whom to look for after a restart: the living first, then the lost."""
        if self._to_save is None:
            self._to_save = self._peers_to_save()
        return self._to_save

    def tick(self, now: Instant) -> None:
        """Forget, dial, and tell what was held back."""
        if now >= self._reap_at:
            self._reap_at = Instant(now + self._config.reap_interval_s)
            config = self._config
            for member in self.members.reap(now, config.failed_keep_s, config.left_keep_s, config.intent_keep_s):
                self._tell(StatusChange.REAPED, member, now)  # a failed one is dialled all the same
        for node in [node for node, at in self._prune_at.items() if at <= now]:
            del self._prune_at[node]
            self._prune(node, now)
        if not self.is_leaving:
            dial = self._redialler.due(now, self.others_alive + 1)
            if dial is not None:
                self._outbox.emit(Rejoin(node=dial.node, address=dial.address))
        if self._coalescer is not None and self._coalescer.deadline() <= now:
            for effect in self._coalescer.flush():
                self._outbox.emit(effect)

    def deadline(self) -> Instant:
        """When `tick` has something to do."""
        due = self._reap_at
        if self._prune_at:
            due = min(due, *self._prune_at.values())
        if not self.is_leaving:
            due = min(due, self._redialler.deadline())
        return due if self._coalescer is None else min(due, self._coalescer.deadline())

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        self.members.check_invariants()
        self._redialler.check_invariants()
        for member in self.members.in_status(MemberStatus.ALIVE, MemberStatus.LEFT):
            assert member.node not in self._redialler, f"{member.node} is {member.status.name} and dialled"

    def _peers_to_save(self) -> tuple[SavedPeer, ...]:
        living = [
            SavedPeer(node=member.node, address=member.address)
            for member in self.members.in_status(MemberStatus.ALIVE, MemberStatus.LEAVING)
            if member.node != self._own.node
        ]
        lost = [SavedPeer(node=dial.node, address=dial.address) for dial in self._redialler.peers()]
        return tuple((living + lost)[:SAVED_PEERS_MAX])

    def _follow(self, verdict: IntentVerdict, now: Instant) -> None:
        """What an intent brought about."""
        member = verdict.member
        if member is None:
            return
        if member.status is MemberStatus.LEFT:
            self._redialler.find(member.node)
        if verdict.change is not None:
            self._tell(verdict.change, member, now)
        if verdict.is_prune and member.node != self._own.node:
            if member.status is MemberStatus.LEAVING:  # SWIM still has it: wait until its leave is through
                wait_s = self._config.broadcast_timeout_s + self._config.leave_propagate_s
                self._prune_at[member.node] = Instant(now + wait_s)
            else:
                self._prune(member.node, now)

    def _prune(self, node: str, now: Instant) -> None:
        known = self.members.get(node)
        if known is None or known.status is MemberStatus.ALIVE:
            return
        self.members.erase(node)
        self._redialler.find(node)
        self._coordinates.forget(node)
        self._tell(StatusChange.REAPED, known, now)

    def _is_credible(self, ltime: int) -> bool:
        if self.clock.is_credible(ltime):
            return True
        self._outbox.drop("intent_ltime")
        return False

    def _tags_of(self, view: MemberView) -> dict[str, str]:
        try:
            return decode_tags(view.meta)
        except CodecError as error:
            self._outbox.drop(f"tags_{error.cause}")
            return {}

    def _tell(self, kind: StatusChange, member: SerfMember, now: Instant) -> None:
        self._to_save = None
        if self._coalescer is not None:
            self._coalescer.add(kind, member, now)
        else:
            self._outbox.emit(StatusChanged(change=kind, members=(member,)))
