"""What all parts of the machine share: terms, roles, timers, the effects of a step, and undoing one.

The machine is made in layers, each a class on top of the one before: this one, then
`snapshots`, `replication`, `reads`, `proposals`, `changes`, `election`, and `machine`, which hands
each event to its method. A layer calls only itself and those below it.
"""

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from consensus.raft.config import RaftConfig
from consensus.raft.effects import (
    Accepted,
    Apply,
    Effect,
    LeaderChanged,
    MembershipChanged,
    Noted,
    Outranked,
    ProposalLost,
    ProposalRejected,
    ReadReady,
    ReadRejected,
    RestoreSnapshot,
    SaveEntries,
    SaveHardState,
    SaveSnapshot,
    SendMessage,
)
from consensus.raft.log import LogMark, RaftLog
from consensus.raft.messages import ForwardReadReply, Message
from consensus.raft.pending import Forwarded, PendingRead, ReadQueue, SeenForwards
from consensus.raft.progress import Progress
from consensus.raft.quorum import VoteTally, reached_by_quorum
from consensus.raft.requests import ProposalId, RejectReason
from consensus.raft.transfer import PartialSnapshot
from consensus.storage import HardState, LoadedLog, Membership, Snapshot
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from orca.sources import Rng

NO_TIMER: Final = Instant(float("inf"))
_Answer = ProposalRejected | ProposalLost | Accepted
_ReadAnswer = ReadReady | ReadRejected


class Role(enum.Enum):
    """What a node is at present.

    PRE_CANDIDATE: it asks whether an election could succeed, before it uses up a term (§9.6).
    """

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class _Mark(NamedTuple):
    """Where the machine was before a step."""

    hard_state: HardState
    role: Role
    leader: NodeId | None
    log: LogMark
    snapshot: Snapshot | None
    commit_index: LogIndex
    applied_index: LogIndex
    uncommitted_bytes: int
    told: "_Told"


class _Told(NamedTuple):
    """What the effects said last of the leader and of the group."""

    leader: NodeId | None
    term: Term
    membership: Membership


class _Undo(NamedTuple):
    """What a failed save needs: the mark, whether messages left before the save, and answers that stay true."""

    mark: _Mark
    has_sent: bool
    accepted_here: dict[ProposalId, None]
    answers: list[Effect]


class RaftCore:
    """State and the frame of a step; see the package docstring for the rules.

    `loaded` is what its store holds. `voters` are the group of an empty log, and of one that names no
    group; a node with none waits until a leader contacts it. Entries up to `applied` (None: up to the snapshot)
    were applied before and are not handed out again; those after them that the store knows to be
    committed are handed out in the first step.
    """

    def __init__(
        self,
        node: NodeId,
        voters: frozenset[NodeId],
        loaded: LoadedLog,
        config: RaftConfig,
        rng: Rng,
        applied: LogIndex | None = None,
    ) -> None:
        self.node = node
        self.config = config
        self._rng = rng
        self._hard_state = loaded.hard_state
        meta = None if loaded.snapshot is None else loaded.snapshot.meta
        self._log = RaftLog(meta, loaded.entries, Membership(voters=tuple(sorted(voters))))
        self._snapshot = loaded.snapshot
        assert self._log.last_term <= self.term, f"an entry of term {self._log.last_term} in term {self.term}"
        self._applied_index = self._log.snapshot_index if applied is None else applied
        assert self._log.snapshot_index <= self._applied_index <= self._log.last_index, (
            f"entry {self._applied_index} cannot have been applied: "
            f"the log holds {self._log.snapshot_index + 1} to {self._log.last_index}"
        )
        # What was applied was committed; more than what is known here only a leader knows.
        self._commit_index = LogIndex(max(self._applied_index, loaded.commit_index))
        self._role = Role.FOLLOWER
        self._leader: NodeId | None = None
        self._leader_contact_at = Instant(float("-inf"))
        self._is_outranked = False
        self._has_started = False
        self._elect_at = Instant(0.0)
        self._heartbeat_at = NO_TIMER
        self._now = Instant(0.0)
        # Of a leader only.
        self._progress: dict[NodeId, Progress] = {}
        self._round = 0
        self._uncommitted_bytes = 0
        self._reads = ReadQueue()
        self._seen_forwards = SeenForwards()
        # Whom leadership is being handed to, and until when that is tried: no proposal is taken meanwhile.
        self._transfer_to: NodeId | None = None
        self._transfer_until = NO_TIMER
        self._transfer_round = -1
        # Of a candidate only.
        self._tally = VoteTally(())
        # Of a follower only.
        self._partial = PartialSnapshot(config.snapshot_bytes_max)
        self._forwarded = Forwarded()
        self._session = int(rng.random() * 2**53)
        self._sequence = 0
        self._told = _Told(None, self.term, self._log.membership)
        self._checked = (self.term, self._commit_index)
        self._undo: _Undo | None = None
        self._begin(self._now)

    @property
    def term(self) -> Term:
        """The newest term that this node knows of."""
        return self._hard_state.term

    @property
    def epoch(self) -> int:
        """How often the group was started anew."""
        return self._hard_state.epoch

    @property
    def role(self) -> Role:
        """What this node is at present."""
        return self._role

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as it knows."""
        return self._role is Role.LEADER

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as it knows."""
        return self._leader

    @property
    def membership(self) -> Membership:
        """The group, as the newest entry about it says, committed or not (§4.1)."""
        return self._log.membership

    @property
    def is_voter(self) -> bool:
        """Whether its vote counts."""
        return self.node in self._log.membership.voters

    @property
    def _may_campaign(self) -> bool:
        """Whether an election of this node may help.

        A voter, and also one that the log removes, until that is committed: nobody else may have the
        entry that removes it, and then nobody else could be elected (§4.2.2). Its own vote does not count.
        """
        if self._is_outranked:
            return False
        return self.is_voter or any(
            self.node in membership.voters for membership in self._log.memberships_since(self._commit_index)
        )

    @property
    def is_outranked(self) -> bool:
        """Whether it met a higher epoch, and does nothing any more."""
        return self._is_outranked

    @property
    def commit_index(self) -> LogIndex:
        """The last entry known to be committed."""
        return self._commit_index

    @property
    def applied_index(self) -> LogIndex:
        """The last entry handed out to be applied."""
        return self._applied_index

    @property
    def last_index(self) -> LogIndex:
        """The newest entry."""
        return self._log.last_index

    @property
    def snapshot_index(self) -> LogIndex:
        """The last entry that the snapshot stands for, 0 without one."""
        return self._log.snapshot_index

    @property
    def tail_entries(self) -> int:
        """How many entries follow the snapshot."""
        return self._log.tail_entries

    @property
    def tail_bytes(self) -> int:
        """How many bytes their payloads have."""
        return self._log.tail_bytes

    # The frame of a step.

    def _begin(self, now: Instant) -> None:
        """A step begins: remember where it began, and let nothing of the last one be left."""
        self._now = now
        self._undo = None
        self._mark = _Mark(
            self._hard_state,
            self._role,
            self._leader,
            self._log.mark(),
            self._snapshot,
            self._commit_index,
            self._applied_index,
            self._uncommitted_bytes,
            self._told,
        )
        self._early: list[SendMessage] = []
        self._late: list[SendMessage] = []
        self._answers: list[_Answer] = []
        self._read_answers: list[_ReadAnswer] = []
        self._accepted_here: dict[ProposalId, None] = {}
        self._restored: Snapshot | None = None
        self._compacted: Snapshot | None = None
        self._notes: list[Noted] = []
        self._outranked: list[Outranked] = []

    def _finish(self) -> list[Effect]:
        """The effects of the step, in the order in which they must be performed."""
        early, late = self._early, self._late
        if self._hard_state != self._mark.hard_state:
            # A term or a vote that was not saved must not be seen outside (§3.8).
            early, late = [], early + late
        saves = self._collect_saves()
        changes = self._collect_changes()
        if saves:
            kept = [one for one in self._answers if not isinstance(one, Accepted) or not self._is_here(one)]
            answers: list[Effect] = [*kept, *self._read_answers, *self._notes, *self._outranked]
            self._undo = _Undo(self._mark, bool(early), self._accepted_here, answers)
        return [
            *early,
            *saves,
            *changes,
            *late,
            *self._outranked,
            *self._answers,
            *self._collect_applies(),
            *self._read_answers,
            *self._notes,
        ]

    def _is_here(self, accepted: Accepted) -> bool:
        return accepted.proposal_id in self._accepted_here

    def _collect_saves(self) -> list[Effect]:
        saves: list[Effect] = []
        if self._hard_state != self._mark.hard_state:
            saves.append(SaveHardState(hard_state=self._hard_state))
        entries, truncate_from = self._log.unsaved(self._mark.log)
        if entries or truncate_from is not None:
            saves.append(SaveEntries(entries=entries, truncate_from=truncate_from))
        snapshot = self._restored or self._compacted
        if snapshot is not None:
            saves.append(SaveSnapshot(snapshot=snapshot))
        return saves

    def _collect_changes(self) -> list[Effect]:
        """What became different in this step: who leads, who belongs to the group, the state as a whole."""
        changes: list[Effect] = []
        told = self._told
        if self._leader != told.leader or (self._leader is not None and self.term != told.term):
            changes.append(LeaderChanged(term=self.term, leader=self._leader))
        membership = self._log.membership
        if membership != told.membership:
            changes.append(MembershipChanged(membership=membership, index=self._log.membership_index))
        self._told = _Told(self._leader, self.term, membership)
        if self._restored is not None:
            changes.append(RestoreSnapshot(snapshot=self._restored))
        return changes

    def _collect_applies(self) -> list[Effect]:
        """All that is committed and not handed out yet; the saves of this step stand before it."""
        if self._applied_index == self._commit_index:
            return []
        pending = self._log.slice(LogIndex(self._applied_index + 1), self._commit_index)
        self._applied_index = self._commit_index
        if self.is_leader:
            self._uncommitted_bytes -= sum([len(entry.payload) for entry in pending])
        size = self.config.apply_entries_max
        return [Apply(entries=pending[start : start + size]) for start in range(0, len(pending), size)]

    def _send_early(self, to: NodeId, message: Message) -> None:
        """Send what is true whatever becomes of this node's disk: it need not wait for it (§10.2.1)."""
        self._early.append(SendMessage(to=to, message=message))

    def _send_late(self, to: NodeId, message: Message) -> None:
        """Send what may be said only when the step is on disk (§3.8)."""
        self._late.append(SendMessage(to=to, message=message))

    def _note(self, message: str) -> None:
        self._notes.append(Noted(message=message))

    # Terms and roles.

    def _become_follower(self, term: Term, leader: NodeId | None) -> None:
        """Follow `leader` in `term`, or nobody; a leader gives up what only a leader does (§3.3)."""
        if term != self.term:
            assert term > self.term, f"the term falls from {self.term} to {term}"
            self._hard_state = HardState(term=term, voted_for=None, epoch=self.epoch)
            self._seen_forwards.clear()
            self._set_leader(None)
        was_leader = self.is_leader
        self._role = Role.FOLLOWER
        self._set_leader(leader)
        if was_leader:
            self._stop_leading()
        if self._elect_at == NO_TIMER:
            self._restart_election_timer()

    def _set_leader(self, leader: NodeId | None) -> None:
        """What was passed on to another leader may have happened or not: nobody will say (§6.3)."""
        if leader != self._leader:
            self._leader = leader
            self._give_up_forwarded(NO_TIMER)

    def _stop_leading(self) -> None:
        self._progress = {}
        self._heartbeat_at = NO_TIMER
        self._uncommitted_bytes = 0
        self._transfer_to = None
        for read in self._reads.drain():
            self._reject_read(read, RejectReason.NOT_LEADER)

    def _reject_read(self, read: PendingRead, reason: RejectReason) -> None:
        if read.origin is None:
            self._read_answers += [
                ReadRejected(read_id=read_id, reason=reason, leader=self._leader) for read_id in read.read_ids
            ]
            return
        reply = ForwardReadReply(term=self.term, epoch=self.epoch, session=read.session, read_ids=read.read_ids)
        self._send_late(read.origin, reply)

    def _give_up_forwarded(self, until: Instant) -> None:
        """Give up what was passed on and is due by `until`."""
        proposals, reads = self._forwarded.take_until(until)
        self._answers += [ProposalLost(proposal_id=proposal_id) for proposal_id in proposals]
        self._read_answers += [
            ReadRejected(read_id=read_id, reason=RejectReason.NOT_LEADER, leader=self._leader) for read_id in reads
        ]

    def _restart_election_timer(self, least: float = 1.0, most: float = 2.0) -> None:
        """Campaign between `least` and `most` election timeouts from now, at random (§3.4).

        Not a learner, nor a removed member: they would disturb the others in vain.
        """
        if not self._may_campaign:
            self._elect_at = NO_TIMER
            return
        timeout_s = self.config.election_timeout_s
        self._elect_at = Instant(self._now + self._rng.uniform(least * timeout_s, most * timeout_s))

    def _has_quorum_contact(self) -> bool:
        """Whether a quorum was heard of within the last election timeout (§6.2)."""
        contacts = [
            self._now if voter == self.node else self._progress[voter].contact_at
            for voter in self._log.membership.voters
        ]
        return reached_by_quorum(contacts) >= self._now - self.config.election_timeout_s

    # A save that failed.

    def _on_save_failed(self, detail: str) -> None:
        """Go back to where the machine was before the step whose save failed; answers that stay true are given.

        With peers it steps down: they may hold entries that it has forgotten, and an index of its
        term must not be used twice.
        """
        undo, self._undo = self._undo, None
        assert undo is not None, "the last step saved nothing that could have failed"
        mark = undo.mark
        stays_leader = self.is_leader and mark.role is Role.LEADER and not self._progress and not undo.has_sent
        self._log.restore(mark.log)
        self._hard_state, self._snapshot, self._told = mark.hard_state, mark.snapshot, mark.told
        self._commit_index, self._applied_index = mark.commit_index, mark.applied_index
        self._checked = (self.term, self._commit_index)
        self._partial.clear()
        self._begin(self._now)
        if stays_leader:
            self._uncommitted_bytes = mark.uncommitted_bytes
        else:
            self._step_down_undone(mark)
        for proposal_id in undo.accepted_here:
            self._answers.append(
                ProposalLost(proposal_id=proposal_id)
                if undo.has_sent
                else ProposalRejected(
                    proposal_id=proposal_id, reason=RejectReason.SAVE_FAILED, leader=self._leader, detail=detail
                )
            )
        self._sort_answers(undo.answers)
        self._note(f"nothing of the last step was saved: {detail}")

    def _step_down_undone(self, mark: _Mark) -> None:
        was_leader = self.is_leader
        self._role = Role.FOLLOWER
        self._leader = None if mark.leader == self.node else mark.leader
        if was_leader:
            self._stop_leading()
        self._restart_election_timer()

    def _sort_answers(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Accepted() | ProposalRejected() | ProposalLost():
                    self._answers.append(effect)
                case ReadReady() | ReadRejected():
                    self._read_answers.append(effect)
                case Outranked():
                    self._outranked.append(effect)
                case Noted():
                    self._notes.append(effect)
                case _:
                    raise AssertionError(f"{effect} is no answer")
