"""The machine: terms, the election, proposals, commit, reads and compaction."""

import enum
from typing import NamedTuple, assert_never

from consensus.raft.config import RaftConfig
from consensus.raft.effects import (
    Accepted,
    Apply,
    Effect,
    LeaderChanged,
    Noted,
    ProposalRejected,
    ReadReady,
    ReadRejected,
    SaveEntries,
    SaveHardState,
    SaveSnapshot,
)
from consensus.raft.events import (
    Event,
    MembershipProposed,
    MessageReceived,
    MessagesReceived,
    PeerUnreachable,
    Proposed,
    ProposedMany,
    ReadRequested,
    SaveFailed,
    SnapshotTaken,
    Tick,
    TransferRequested,
)
from consensus.raft.log import LogMark, RaftLog
from consensus.raft.requests import ProposalId, RejectReason
from consensus.storage import Entry, HardState, LoadedLog, Snapshot
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from orca.sources import Rng


class Role(enum.Enum):
    """What a voter is at present."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class _Undo(NamedTuple):
    """Where the machine was before the last step that saved something."""

    hard_state: HardState
    role: Role
    leader: NodeId | None
    log: LogMark
    commit_index: LogIndex
    applied_index: LogIndex
    proposals: tuple[ProposalId, ...]


_NO_TIMER = Instant(float("inf"))


class RaftMachine:
    """One voter of a group; see the package docstring for the rules.

    `loaded` is what its store holds. Entries up to `applied` (None: up to the snapshot)
    were applied before and are not handed out again.
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
        assert len(voters) == 1, (
            f"this machine knows how to be the only voter of a group, not one of {len(voters)}: {sorted(voters)}"
        )
        assert node in voters, f"{node} is not the voter of its group, {sorted(voters)} is"
        self.node = node
        self.voters = voters
        self._config = config
        self._rng = rng
        self._hard_state = loaded.hard_state
        self._log = RaftLog(None if loaded.snapshot is None else loaded.snapshot.meta, loaded.entries)
        self._applied_index = self._log.base_index if applied is None else applied
        assert self._log.base_index <= self._applied_index <= self._log.last_index, (
            f"entry {self._applied_index} cannot have been applied: "
            f"the log holds {self._log.base_index + 1} to {self._log.last_index}"
        )
        # What was applied was committed; more is known only when an entry of a new term is committed.
        self._commit_index = self._applied_index
        self._role = Role.FOLLOWER
        self._leader: NodeId | None = None
        self._elect_at = Instant(0.0)
        self._undo: _Undo | None = None
        self.check_invariants()

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
        return self._log.base_index

    @property
    def tail_entries(self) -> int:
        """How many entries follow the snapshot."""
        return self._log.tail_entries

    @property
    def tail_bytes(self) -> int:
        """How many bytes their payloads have."""
        return self._log.tail_bytes

    def deadline(self) -> Instant | None:
        """When it next wants a Tick; None while no timer runs."""
        return None if self._elect_at == _NO_TIMER else self._elect_at

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """What to do about `event`; the saves come first and make one transaction."""
        if isinstance(event, SaveFailed):
            return self._on_save_failed(event, now)
        self._undo = None
        match event:
            case Tick():
                return self._on_tick(now)
            case Proposed():
                return self._on_proposals((event,))
            case ProposedMany(proposals=proposals):
                return self._on_proposals(proposals)
            case ReadRequested():
                return self._on_read(event)
            case SnapshotTaken():
                return self._on_snapshot(event)
            case MembershipProposed(proposal_id=proposal_id):
                return [ProposalRejected(proposal_id=proposal_id, reason=RejectReason.REFUSED, leader=self._leader)]
            case MessageReceived() | MessagesReceived() | TransferRequested() | PeerUnreachable():
                return []  # the only voter has no peers
            case _:
                assert_never(event)

    def _on_tick(self, now: Instant) -> list[Effect]:
        if now < self._elect_at:
            return []
        return self._campaign()

    def _campaign(self) -> list[Effect]:
        """Move to a new term and vote for itself; with one voter that vote is the quorum (§3.4)."""
        self._remember(proposals=())
        term = Term(self.term + 1)
        self._hard_state = HardState(term=term, voted_for=self.node, epoch=self.epoch)
        self._role, self._leader = Role.CANDIDATE, None
        return [SaveHardState(hard_state=self._hard_state), *self._become_leader()]

    def _become_leader(self) -> list[Effect]:
        self._role, self._leader = Role.LEADER, self.node
        self._elect_at = _NO_TIMER
        uncommitted = self._log.last_index - self._commit_index
        no_op = Entry(term=self.term, index=LogIndex(self._log.last_index + 1), payload=b"")
        self._log.append((no_op,))
        return [
            SaveEntries(entries=(no_op,)),
            LeaderChanged(term=self.term, leader=self.node),
            *self._commit_own(),
            Noted(message=f"leads in term {self.term}; {uncommitted} entries of earlier terms committed"),
        ]

    def _on_proposals(self, proposals: tuple[Proposed, ...]) -> list[Effect]:
        if not self.is_leader:
            return [self._rejected(proposal, RejectReason.NOT_LEADER) for proposal in proposals]
        entries: list[Entry] = []
        accepted: list[Effect] = []
        rejected: list[Effect] = []
        for proposal in proposals:
            assert proposal.payload, f"proposal {proposal.proposal_id} is empty, which stands for a no-op"
            if len(proposal.payload) > self._config.payload_bytes_max:
                rejected.append(self._rejected(proposal, RejectReason.TOO_LARGE))
                continue
            index = LogIndex(self._log.last_index + len(entries) + 1)
            entries.append(Entry(term=self.term, index=index, payload=proposal.payload))
            accepted.append(Accepted(proposal_id=proposal.proposal_id, term=self.term, index=index))
        if not entries:
            return rejected
        self._remember(proposals=tuple(proposal.proposal_id for proposal in proposals))
        self._log.append(entries)
        return [SaveEntries(entries=tuple(entries)), *rejected, *accepted, *self._commit_own()]

    def _rejected(self, proposal: Proposed, reason: RejectReason) -> ProposalRejected:
        detail = ""
        if reason is RejectReason.TOO_LARGE:
            detail = f"{len(proposal.payload)} bytes, at most {self._config.payload_bytes_max} fit into one entry"
        return ProposalRejected(proposal_id=proposal.proposal_id, reason=reason, leader=self._leader, detail=detail)

    def _commit_own(self) -> list[Effect]:
        """Commit up to the newest entry, which is of this term and saved before these effects are performed.

        Its own disk is the quorum of a single voter. Entries of earlier terms are
        committed with it, never before (§3.6.2).
        """
        assert self._log.last_term == self.term, "a leader commits by an entry of its own term only"
        self._commit_index = self._log.last_index
        pending = self._log.slice(LogIndex(self._applied_index + 1), self._commit_index)
        self._applied_index = self._commit_index
        size = self._config.apply_entries_max
        return [Apply(entries=pending[start : start + size]) for start in range(0, len(pending), size)]

    def _on_read(self, event: ReadRequested) -> list[Effect]:
        """A single voter is sure to lead once it does; its no-op is committed by then (§6.4)."""
        if not self.is_leader:
            return [ReadRejected(read_id=event.read_id, reason=RejectReason.NOT_LEADER, leader=self._leader)]
        return [ReadReady(read_id=event.read_id, index=self._commit_index)]

    def _on_snapshot(self, event: SnapshotTaken) -> list[Effect]:
        assert event.upto <= self._applied_index, (
            f"a snapshot up to {event.upto} cannot be: entries are applied up to {self._applied_index}"
        )
        self._remember(proposals=())
        meta = self._log.compact(event.upto)
        return [SaveSnapshot(snapshot=Snapshot(meta=meta, payload=event.payload))]

    def _remember(self, proposals: tuple[ProposalId, ...]) -> None:
        self._undo = _Undo(
            hard_state=self._hard_state,
            role=self._role,
            leader=self._leader,
            log=self._log.mark(),
            commit_index=self._commit_index,
            applied_index=self._applied_index,
            proposals=proposals,
        )

    def _on_save_failed(self, event: SaveFailed, now: Instant) -> list[Effect]:
        undo, self._undo = self._undo, None
        assert undo is not None, "the last step saved nothing that could have failed"
        was_elected = self.is_leader and undo.role is not Role.LEADER
        self._hard_state, self._role, self._leader = undo.hard_state, undo.role, undo.leader
        self._log.restore(undo.log)
        self._commit_index, self._applied_index = undo.commit_index, undo.applied_index
        if was_elected:
            timeout_s = self._config.election_timeout_s
            self._elect_at = Instant(now + self._rng.uniform(timeout_s, 2 * timeout_s))
        rejected: list[Effect] = [
            ProposalRejected(
                proposal_id=proposal_id, reason=RejectReason.SAVE_FAILED, leader=self._leader, detail=event.detail
            )
            for proposal_id in undo.proposals
        ]
        return [*rejected, Noted(message=f"nothing of the last step was saved: {event.detail}")]

    def check_invariants(self) -> None:
        """What always holds between two steps."""
        self._log.check_invariants()
        assert self._log.last_term <= self.term, f"an entry of term {self._log.last_term} in term {self.term}"
        assert self._log.base_index <= self._applied_index <= self._commit_index <= self._log.last_index, (
            f"snapshot {self._log.base_index}, applied {self._applied_index}, "
            f"commit {self._commit_index} and last {self._log.last_index} are out of order"
        )
        assert self._role is not Role.CANDIDATE, "the only voter never waits for votes"
        if self.is_leader:
            assert self._leader == self.node, f"leads, and believes that {self._leader} does"
            assert self._hard_state.voted_for == self.node, "leads without its own vote"
            assert self._log.last_term == self.term, "leads without an entry of its term"
            assert self._commit_index == self._log.last_index, "a single voter commits all that it saved"
        else:
            assert self._elect_at != _NO_TIMER, "follows nobody and waits for nothing"
