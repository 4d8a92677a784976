"""One replica: the raft machine, the state that its log builds, the leader's planning.

Pure. The driver and the simulator both run it: events in, effects out, performed in
list order. Saves come first and are one durable transaction; what depends on them
(answers, new state) comes after. If the save fails the driver steps `SaveFailed` and
drops the other effects of that step, so nothing is applied that is not on disk: that
is why entries are carried out when `Apply` is *performed*, by `take_applied`, and not
when raft hands them out.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from consensus.duties import LeaderDuties
from consensus.raft import (
    Accepted,
    Apply,
    LeaderChanged,
    Noted,
    ProposalId,
    ProposalLost,
    ProposalRejected,
    Proposed,
    ProposedMany,
    RaftConfig,
    RaftMachine,
    ReadReady,
    ReadRejected,
    ReadRequested,
    RestoreSnapshot,
    SaveEntries,
    SaveFailed,
    SaveHardState,
    SaveSnapshot,
    SnapshotTaken,
    Tick,
)
from consensus.raft import (
    Effect as RaftEffect,
)
from consensus.raft import (
    Event as RaftEvent,
)
from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.plan import Planner
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command, decode_command, encode_command
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from consensus.storage import Entry, EntryKind, LoadedLog, Snapshot
from orca.model.ids import LogIndex, NodeId, ServiceId
from orca.model.units import Instant, WallMs
from orca.sources import IdSource, Rng

Event: TypeAlias = RaftEvent
Effect: TypeAlias = RaftEffect


_SNAPSHOT_SHARE: Final = 4
"""A log is compacted once it is worth a quarter of the snapshot, so that little is written again and again."""


class AppliedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One command of the log and what it did here."""

    index: LogIndex
    command: Command
    outcome: Outcome


class Replica:
    """A node's share in the group: `step` in, effects out, `take_applied` on the way.

    The log is compacted when `log_entries_kept` entries or `log_bytes_kept` bytes of
    payload follow the last snapshot: a store must not fill up with a few large deploys.
    """

    def __init__(  # noqa: PLR0913 - two limits with defaults
        self,
        node: NodeId,
        voters: frozenset[NodeId],
        loaded: LoadedLog,
        rng: Rng,
        ids: IdSource,
        *,
        log_entries_kept: int = 5_000,
        log_bytes_kept: int = 32 * 2**20,
        changes_max: int = 2000,
    ) -> None:
        self.node = node
        self.state = ClusterState() if loaded.snapshot is None else decode_snapshot(loaded.snapshot.payload)
        self.raft = RaftMachine(node, voters, loaded, RaftConfig(), rng)
        self.planner = Planner()
        self.blocked: dict[ServiceId, str] = {}
        self._ids = ids
        self._rng = rng
        self._must_compact = False
        self._log_entries_kept = log_entries_kept
        self._log_bytes_kept = log_bytes_kept
        self._changes_max = changes_max
        self._next_proposal = 0
        self._plan_in_flight: ProposalId | None = None
        self._duties = LeaderDuties(ids)
        self._duty_in_flight: ProposalId | None = None
        self._plan_wake_at_ms: WallMs | None = None
        self._leads_since_ms: WallMs | None = None
        self._is_dirty = True

    @property
    def is_leader(self) -> bool:
        """Whether this replica may propose and plan."""
        return self.raft.is_leader

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Feed the raft machine; see `consensus.raft` for events and effects."""
        return self.raft.step(event, now)

    def deadline(self) -> Instant | None:
        """When the raft machine next wants a `Tick`."""
        return self.raft.deadline()

    def propose(self, command: Command) -> Proposed:
        """The event that proposes `command`; its id finds the answer."""
        return Proposed(proposal_id=self.fresh_proposal_id(), payload=encode_command(command))

    def fresh_proposal_id(self) -> ProposalId:
        """A number that no other proposal of this replica has."""
        self._next_proposal += 1
        return ProposalId(self._next_proposal)

    def take_applied(self, entries: Iterable[Entry]) -> list[AppliedCommand]:
        """Carry out committed entries, in order.

        Raises PeerProtocolError at the first command that this release does not know: the
        replica must stop there rather than skip what others apply.
        """
        applied = []
        before = self.state.plan_revision
        for entry in entries:
            if not entry.payload or entry.kind is not EntryKind.NORMAL:
                continue  # what Raft says to itself
            command = decode_command(entry.payload)
            outcome = apply(self.state, entry.index, command)
            applied.append(AppliedCommand(index=entry.index, command=command, outcome=outcome))
        if self.state.plan_revision != before:
            self._is_dirty = True
        return applied

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew with the state of `snapshot`; raises StoreCorruptError for one that is none."""
        self.state = decode_snapshot(snapshot.payload)
        self.planner = Planner()
        self._is_dirty = True

    def begin_again(self, loaded: LoadedLog, applied: LogIndex, *, must_compact: bool = False) -> None:
        """Go on with another log; the state stays as it is, with entry `applied` the last in it.

        `must_compact`: make a snapshot soon, for readers that have to begin with one.
        """
        self.raft = RaftMachine(self.node, frozenset(), loaded, RaftConfig(), self._rng, applied)
        self._plan_in_flight = None
        self._must_compact = must_compact
        self._is_dirty = True

    def mark_dirty(self) -> None:
        """Beliefs changed: plan again."""
        self._is_dirty = True

    def plan(self, beliefs: Beliefs, now_ms: WallMs) -> Proposed | None:
        """The scheduler's next proposal, or None when there is nothing to decide.

        One plan is in flight at a time: the next one must see what this one did.
        """
        if not self.is_leader:
            self._leads_since_ms = None
            return None
        if self._leads_since_ms is None:
            self._leads_since_ms = now_ms
        if self._plan_in_flight is not None or not self.is_plan_due(now_ms):
            return None
        plan = self.planner.plan(
            self.state,
            beliefs,
            now_ms,
            self._ids,
            leads_since_ms=self._leads_since_ms,
            changes_max=self._changes_max,
        )
        self._is_dirty = False
        self._plan_wake_at_ms = plan.wake_at_ms
        self.blocked = plan.blocked
        if plan.command is None:
            return None
        proposal = self.propose(plan.command)
        self._plan_in_flight = proposal.proposal_id
        return proposal

    def duty(self, now: Instant, now_ms: WallMs) -> Proposed | None:
        """What a leader has to propose of itself, one at a time; see `consensus.duties`."""
        self._duties.follow(self.raft, self.state, now)
        command = self._duties.next_command(self.state, now, now_ms)
        if command is None:
            return None
        proposal = self.propose(command)
        self._duty_in_flight = proposal.proposal_id
        return proposal

    def duty_ended(self, proposal: ProposalId, now: Instant) -> None:
        """`proposal` is settled; if it was a duty the next one may come."""
        if proposal == self._duty_in_flight:
            self._duty_in_flight = None
            self._duties.ended(now)

    def duty_at(self) -> float:
        """When there may be a duty though nothing changes."""
        return self._duties.due_at(self.state)

    def lease_time_ms(self, now: Instant) -> int | None:
        """Lease time, for a leader."""
        return self._duties.lease_time_ms(now)

    def is_plan_due(self, now_ms: WallMs) -> bool:
        """Whether something changed since the last plan, or its time has come."""
        return self._is_dirty or (self._plan_wake_at_ms is not None and now_ms >= self._plan_wake_at_ms)

    def plan_ended(self, proposal: ProposalId) -> bool:
        """Whether `proposal` was the plan in flight; the next one may then be made."""
        if proposal != self._plan_in_flight:
            return False
        self._plan_in_flight = None
        self._is_dirty = True
        return True

    def plan_wake_at_ms(self) -> WallMs | None:
        """When time alone makes a new plan worth while."""
        return self._plan_wake_at_ms

    @property
    def is_compaction_due(self) -> bool:
        """Whether the log has grown enough to be replaced by a snapshot."""
        entries, size = self.raft.tail_entries, self.raft.tail_bytes
        snapshot = self.raft.snapshot
        is_worth_it = snapshot is None or size * _SNAPSHOT_SHARE >= len(snapshot.payload)
        has_grown = (
            (entries >= self._log_entries_kept and is_worth_it)
            or entries >= self._log_entries_kept * _SNAPSHOT_SHARE
            or size >= self._log_bytes_kept
        )
        return (has_grown or self._must_compact) and self.raft.applied_index > self.raft.snapshot_index

    def compaction(self) -> Callable[[], SnapshotTaken]:
        """What makes the event that compacts the log: of the state as it is now, whatever is applied meanwhile.

        Encoding a large state takes long: call it in a thread. It raises StoreFullError for a state that
        no release reads back.
        """
        self._must_compact = False
        upto, state = self.raft.applied_index, self.state.freeze()
        return lambda: SnapshotTaken(upto=upto, payload=encode_snapshot(state))

    def check_invariants(self) -> None:
        """Raise AssertionError when the machine or the state contradicts itself."""
        self.raft.check_invariants()
        self.state.check_invariants()


__all__ = [
    "Accepted",
    "AppliedCommand",
    "Apply",
    "Effect",
    "Event",
    "LeaderChanged",
    "Noted",
    "ProposalLost",
    "ProposalRejected",
    "Proposed",
    "ProposedMany",
    "ReadReady",
    "ReadRejected",
    "ReadRequested",
    "Replica",
    "RestoreSnapshot",
    "SaveEntries",
    "SaveFailed",
    "SaveHardState",
    "SaveSnapshot",
    "SnapshotTaken",
    "Tick",
]
