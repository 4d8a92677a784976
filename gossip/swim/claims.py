"""Which claim overrides which (WIRE.md §4.3; SWIM §4.2), suspicion and refutation."""

from typing import Final

from gossip.effects import NoteLevel
from gossip.messages import Alive, Dead, Suspect
from gossip.swim.core import Core
from gossip.swim.effects import ChangeKind
from gossip.swim.members import Member, MemberState
from gossip.swim.suspicion import Suspicion, suspicion_min_s
from orca.model.units import Instant

NAME_BYTES_MAX: Final = 256
INCARNATION_MAX: Final = (1 << 32) - 2
"""Claims above it could never be refuted: nobody counts that far but a liar."""
_OLDEST_PROTOCOL: Final = 2


class Claims:
    """Takes in claims, from packets, exchanges and our own probes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._suspicions: dict[str, Suspicion] = {}

    @property
    def suspicions(self) -> int:
        """How many members are suspected."""
        return len(self._suspicions)

    def begin(self, now: Instant) -> None:
        """Enter ourselves."""
        core = self._core
        claim = core.own_claim()
        member = Member(
            node=core.node,
            address=core.address,
            meta=claim.meta,
            version=claim.version,
            incarnation=claim.incarnation,
            state=MemberState.ALIVE,
            changed_at=now,
            heard_at=now,
        )
        core.members.add(member)
        core.broadcast(claim)
        core.changed(ChangeKind.JOINED, member)
        core.delegate.member_joined(member.view(), now)

    def announce(self, now: Instant) -> None:
        """Our tags changed: the next incarnation says so."""
        core = self._core
        own = self._own()
        core.incarnation = own.incarnation = own.incarnation + 1
        claim = core.own_claim()
        own.meta = claim.meta
        core.broadcast(claim)
        core.changed(ChangeKind.UPDATED, own)
        core.delegate.member_updated(own.view(), now)

    def _own(self) -> Member:
        own = self._core.members.get(self._core.node)
        assert own is not None, "we are always a member to ourselves"
        return own

    # ----------------------------------------------------------------------- alive

    def on_alive(self, claim: Alive, now: Instant) -> None:
        """Somebody lives, says somebody."""
        core = self._core
        is_self = claim.node == core.node
        if is_self and core.is_leaving:
            return
        if not self._is_sound(claim):
            return
        member = core.members.get(claim.node)
        if member is None:
            member = self._enter(claim, now)
            if member is None:
                return
        moves = member.address != claim.address
        if moves and not self._may_move(member, now):
            core.counts["name_conflicts"] += 1
            core.delegate.name_conflict(member.view(), claim, now)
            return
        if not is_self and not moves and claim.incarnation <= member.incarnation:
            return
        if is_self:
            self._on_own_alive(member, claim, now)
            return
        self._accept(member, claim, now)

    def _is_sound(self, claim: Alive) -> bool:
        version = claim.version
        if len(version) >= 3 and (version[0] == 0 or version[1] == 0 or version[0] > version[1]):
            self._core.counts["bad_version"] += 1
            return False
        if not claim.node or len(claim.node) > NAME_BYTES_MAX or claim.incarnation > INCARNATION_MAX:
            self._core.counts["absurd_claims"] += 1
            return False
        return True

    def _enter(self, claim: Alive, now: Instant) -> Member | None:
        core = self._core
        if len(core.members) >= core.config.members_max:
            core.counts["member_table_full"] += 1
            return None
        member = Member(
            node=claim.node,
            address=claim.address,
            meta=claim.meta,
            version=claim.version,
            incarnation=0,
            state=MemberState.DEAD,
            changed_at=now,
        )
        core.members.add(member)
        return member

    def _may_move(self, member: Member, now: Instant) -> bool:
        """Whether another address may take over the name."""
        if member.state is MemberState.LEFT:
            return True
        reclaim_s = self._core.config.dead_reclaim_s
        return member.state is MemberState.DEAD and 0 < reclaim_s <= now - member.changed_at

    def _on_own_alive(self, own: Member, claim: Alive, now: Instant) -> None:
        """Of an earlier life, or by somebody who claims to be us."""
        if claim.incarnation < own.incarnation:
            return
        is_ours = claim.meta == own.meta and claim.version == own.version and claim.address == own.address
        if claim.incarnation == own.incarnation and is_ours:
            return
        self._refute(own, claim.incarnation, now)

    def _accept(self, member: Member, claim: Alive, now: Instant) -> None:
        core = self._core
        was = member.state
        has_changed = member.meta != claim.meta or member.address != claim.address
        self._end_suspicion(member.node)
        core.broadcast(claim)
        if claim.version:
            member.version = claim.version
        member.incarnation = claim.incarnation
        member.meta = claim.meta
        member.address = claim.address
        if was is not MemberState.ALIVE:
            member.state, member.changed_at = MemberState.ALIVE, now
        if was is MemberState.DEAD or was is MemberState.LEFT:
            member.rtt_s = None
            core.changed(ChangeKind.JOINED, member)
            core.delegate.member_joined(member.view(), now)
            return
        if was is MemberState.SUSPECT:
            core.counts["refuted"] += 1
            core.changed(ChangeKind.REFUTED, member)
        if has_changed:
            core.changed(ChangeKind.UPDATED, member)
            core.delegate.member_updated(member.view(), now)

    # --------------------------------------------------------------------- suspect

    def on_suspect(self, claim: Suspect, now: Instant) -> None:
        """Somebody does not answer, says somebody."""
        core = self._core
        member = core.members.get(claim.node)
        if member is None or claim.incarnation < member.incarnation:
            return
        if claim.incarnation > INCARNATION_MAX:
            core.counts["absurd_claims"] += 1
            return
        suspicion = self._suspicions.get(claim.node)
        if suspicion is not None:
            if suspicion.confirm(claim.accuser):
                core.broadcast(claim)
                core.timers.set(("suspicion", claim.node), max(now, suspicion.ends_at))
            return
        if member.state is not MemberState.ALIVE:
            return
        if claim.node == core.node:
            self._refute(member, claim.incarnation, now)
            core.note(f"{claim.accuser} suspects this node to have failed; refuted", NoteLevel.WARNING)
            return
        core.broadcast(claim)
        self._suspect(member, claim, now)

    def _suspect(self, member: Member, claim: Suspect, now: Instant) -> None:
        core, config = self._core, self._core.config
        members = len(core.members)
        expected = config.confirmations_max if members - 2 >= config.confirmations_max else 0
        minimum_s = suspicion_min_s(config.suspicion_multiplier, members, config.probe_interval_s)
        suspicion = Suspicion(
            incarnation=claim.incarnation,
            started_at=now,
            expected=expected,
            minimum_s=minimum_s,
            maximum_s=config.suspicion_max_multiplier * minimum_s,
            accusers=[claim.accuser],
        )
        self._suspicions[member.node] = suspicion
        member.incarnation = claim.incarnation
        member.state, member.changed_at = MemberState.SUSPECT, now
        core.counts["suspected"] += 1
        core.timers.set(("suspicion", member.node), suspicion.ends_at)
        core.changed(ChangeKind.SUSPECTED, member)

    def on_suspicion_over(self, node: str, now: Instant) -> None:
        """Nobody refuted in time."""
        suspicion = self._suspicions.get(node)
        if suspicion is None:
            return
        self.on_dead(Dead(incarnation=suspicion.incarnation, node=node, accuser=self._core.node), now)

    def allow_refutations(self, until: Instant) -> None:
        """No suspicion ends before `until`: what refutes it may lie unread in our socket."""
        timers = self._core.timers
        for node in self._suspicions:
            key = ("suspicion", node)
            if timers.at(key) < until:
                timers.set(key, until)

    def _end_suspicion(self, node: str) -> None:
        if self._suspicions.pop(node, None) is not None:
            self._core.timers.cancel(("suspicion", node))

    # ------------------------------------------------------------------------ dead

    def on_dead(self, claim: Dead, now: Instant) -> None:
        """Somebody is dead, says somebody; or has left, says itself."""
        core = self._core
        member = core.members.get(claim.node)
        if member is None or claim.incarnation < member.incarnation:
            return
        if claim.incarnation > INCARNATION_MAX:
            core.counts["absurd_claims"] += 1
            return
        self._end_suspicion(claim.node)
        if not member.is_up:
            return
        if claim.node == core.node and not core.is_leaving:
            self._refute(member, claim.incarnation, now)
            core.note(f"{claim.accuser} takes this node for dead; refuted", NoteLevel.WARNING)
            return
        core.broadcast(claim)
        self._bury(member, claim, now)

    def _bury(self, member: Member, claim: Dead, now: Instant) -> None:
        core = self._core
        is_graceful = claim.node == claim.accuser
        member.incarnation = claim.incarnation
        member.state = MemberState.LEFT if is_graceful else MemberState.DEAD
        member.changed_at = now
        core.counts["left" if is_graceful else "failed"] += 1
        core.changed(ChangeKind.LEFT if is_graceful else ChangeKind.FAILED, member)
        core.delegate.member_left(member.view(), is_graceful, now)

    def _refute(self, own: Member, accused: int, now: Instant) -> None:
        """We live: with an incarnation above the one that was accused."""
        core = self._core
        own.incarnation = core.incarnation = max(own.incarnation, accused) + 1
        core.awareness.add(1)
        core.counts["refutes"] += 1
        core.broadcast(core.own_claim())

    def check_invariants(self) -> None:
        """Raise AssertionError when tables do not fit each other."""
        core = self._core
        core.members.check_invariants()
        suspects = {member.node for member in core.members if member.state is MemberState.SUSPECT}
        assert suspects == set(self._suspicions), f"suspects {suspects} and suspicions {set(self._suspicions)}"
        own = self._own()
        assert own.incarnation == core.incarnation, "our incarnation stands once"
        assert own.is_up or core.is_leaving, "only who leaves buries itself"
        for suspicion in self._suspicions.values():
            assert len(suspicion.accusers) <= suspicion.expected + 1, "accusers are bounded"
