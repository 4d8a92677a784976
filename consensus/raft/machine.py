"""The machine: hands each event to its part, and closes the step."""

from typing import assert_never

from consensus.raft.core import NO_TIMER, Role
from consensus.raft.effects import Effect
from consensus.raft.events import (
    EntriesLearned,
    Event,
    MembershipProposed,
    MessageReceived,
    MessagesReceived,
    PeerUnreachable,
    Proposed,
    ProposedMany,
    ReadRequested,
    SaveFailed,
    SnapshotLearned,
    SnapshotTaken,
    Tick,
    TransferRequested,
)
from consensus.raft.learning import Learning
from consensus.raft.messages import (
    AppendEntries,
    AppendReply,
    EpochNotice,
    ForwardProposals,
    ForwardRead,
    ForwardReadReply,
    ForwardReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from consensus.raft.quorum import Verdict
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant

_FEW = 100
"""Invariants that look at each entry are checked for logs up to this length."""
_FromLeader = AppendEntries | Heartbeat | InstallSnapshot
_Request = AppendEntries | Heartbeat | InstallSnapshot | ForwardProposals | ForwardRead


class RaftMachine(Learning):
    """One node of a group; see the package docstring for the rules."""

    def deadline(self) -> Instant | None:
        """When it next wants a Tick; None while no timer runs."""
        first = min(self._elect_at, self._heartbeat_at)
        forwarded = self._forwarded.next_end()
        if forwarded is not None:
            first = min(first, forwarded)
        return None if first == NO_TIMER else first

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """What to do about `event`, in the order in which it must be done; see `collect_write`."""
        if isinstance(event, SaveFailed):
            self._now = now
            self._on_save_failed(event.detail)
            return self._finish()
        self._begin(now)
        if not self._has_started:
            self._start()
        self._handle(event)
        if self.is_leader:
            self._lead()
        self._match_timer()
        return self._finish()

    def _start(self) -> None:
        """The first step: an only voter need not wait for a leader."""
        self._has_started = True
        if self.membership.voters != (self.node,):
            self._restart_election_timer()

    def _handle(self, event: Event) -> None:
        match event:
            case MessageReceived():
                self._on_message(event.sender, event.message)
            case MessagesReceived():
                self._on_messages(event.messages)
            case ProposedMany() | Proposed():
                self._on_proposals(event.proposals if isinstance(event, ProposedMany) else (event,))
            case Tick():
                self._on_tick()
            case ReadRequested():
                self._on_read(event.read_id)
            case SnapshotTaken():
                self._on_snapshot_taken(event)
            case MembershipProposed():
                self._on_membership_proposed(event)
            case TransferRequested():
                self._on_transfer_requested(event)
            case PeerUnreachable():
                self._on_peer_unreachable(event.node)
            case EntriesLearned() | SnapshotLearned():
                self._on_learned(event)
            case SaveFailed():
                raise AssertionError("a failed save has its own way")
            case _:
                assert_never(event)

    def _on_tick(self) -> None:
        if self._now >= self._heartbeat_at:
            self._on_heartbeat_timeout()
        if self._now >= self._elect_at:
            self._on_election_timeout()
        self._give_up_forwarded(self._now)

    def _on_messages(self, messages: tuple[MessageReceived, ...]) -> None:
        """One step, so one write, for all of them.

        What follows a whole snapshot is dropped: a write makes entries first and the snapshot then.
        The leader sends it again.
        """
        for one in messages:
            if self._restored is not None:
                return
            self._on_message(one.sender, one.message)

    def _on_message(self, sender: NodeId, message: Message) -> None:
        """Settle epoch and term before anything else (§3.3)."""
        if self._is_outranked or sender == self.node or not self._is_of_epoch(sender, message):
            return
        # These two never make anybody change its term by themselves.
        if isinstance(message, PreVote):
            self._on_pre_vote(sender, message)
            return
        if isinstance(message, RequestVote):
            self._on_request_vote(sender, message)
            return
        if message.term > self.term:
            self._become_follower(message.term, None)
        elif message.term < self.term and not isinstance(message, PreVoteReply):
            self._answer_outdated(sender, message)
            return
        progress = self._progress.get(sender)
        if progress is not None:
            progress.contact_at = self._now
        self._dispatch(sender, message)

    def _dispatch(self, sender: NodeId, message: Message) -> None:
        """Messages of this term."""
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                if self._follow(sender):
                    self._on_leader_message(sender, message)
            case AppendReply():
                self._on_append_reply(sender, message)
            case HeartbeatReply():
                self._on_heartbeat_reply(sender, message)
            case SnapshotReply():
                self._on_snapshot_reply(sender, message)
            case VoteReply() | PreVoteReply():
                self._on_ballot(sender, message)
            case TimeoutNow():
                self._on_timeout_now(sender, message)
            case ForwardProposals() | ForwardReply() | ForwardRead() | ForwardReadReply():
                self._on_forwarded(sender, message)
            case PreVote() | RequestVote() | EpochNotice():
                pass  # settled before
            case _:
                assert_never(message)

    def _on_leader_message(self, sender: NodeId, message: _FromLeader) -> None:
        match message:
            case AppendEntries():
                self._on_append_entries(sender, message)
            case Heartbeat():
                self._on_heartbeat(sender, message)
            case InstallSnapshot():
                self._on_install_snapshot(sender, message)
            case _:
                assert_never(message)

    def _on_ballot(self, sender: NodeId, message: VoteReply | PreVoteReply) -> None:
        if isinstance(message, VoteReply):
            self._on_vote_reply(sender, message)
        else:
            self._on_pre_vote_reply(sender, message)

    def _on_forwarded(
        self, sender: NodeId, message: ForwardProposals | ForwardReply | ForwardRead | ForwardReadReply
    ) -> None:
        match message:
            case ForwardProposals():
                self._on_forward_proposals(sender, message)
            case ForwardReply():
                self._on_forward_reply(message)
            case ForwardRead():
                self._on_forward_read(sender, message)
            case ForwardReadReply():
                self._on_forward_read_reply(message)
            case _:
                assert_never(message)

    def _answer_outdated(self, sender: NodeId, message: Message) -> None:
        """Who leads or follows in an earlier term learns of this one (§3.3); answers to old questions are dropped."""
        if isinstance(message, _Request):
            reply = AppendReply(term=self.term, epoch=self.epoch, is_accepted=False, index=self._log.base_index)
            self._send_late(sender, reply)

    def _is_of_epoch(self, sender: NodeId, message: Message) -> bool:
        """Whether the message belongs to the life of the group that this log belongs to.

        Terms of two epochs cannot be compared: after a recovery by hand the group goes on from one log,
        and what the others hold is another past.
        """
        if message.epoch == self.epoch:
            return True
        if message.epoch < self.epoch:
            if not isinstance(message, EpochNotice):
                self._send_late(sender, EpochNotice(term=self.term, epoch=self.epoch))
            return False
        if self._is_blank:
            self._adopt(message.epoch)
            return True
        self._outrank(message.epoch)
        return False

    def check_invariants(self) -> None:
        """What always holds between two steps."""
        log = self._log
        log.check_invariants()
        if log.tail_entries < _FEW:
            log.check_bytes()
        assert log.last_term <= self.term, f"an entry of term {log.last_term} in term {self.term}"
        assert log.snapshot_index <= self._applied_index <= self._commit_index <= log.last_index, (
            f"snapshot {log.snapshot_index}, applied {self._applied_index}, "
            f"commit {self._commit_index} and last {log.last_index} are out of order"
        )
        term, commit_index = self._checked
        assert self.term >= term, f"the term fell from {term} to {self.term}"
        assert self._commit_index >= commit_index, f"commit fell from {commit_index} to {self._commit_index}"
        self._checked = (self.term, self._commit_index)
        if log.snapshot_index:
            assert self._snapshot is not None, "the log begins after a snapshot that is not there"
            assert self._snapshot.meta.last_index == log.snapshot_index, "the snapshot ends elsewhere than the log says"
        self._partial.check_invariants()
        self._check_role()

    def _check_role(self) -> None:
        match self._role:
            case Role.LEADER:
                self._check_leader()
            case Role.CANDIDATE:
                assert self._hard_state.voted_for == self.node, "campaigns without its own vote"
                assert self._tally.verdict is Verdict.PENDING, f"campaigns, and the vote is {self._tally.verdict}"
            case Role.PRE_CANDIDATE:
                assert self._tally.verdict is not Verdict.WON, "asks, and has its answer"
            case Role.FOLLOWER:
                assert self._leader != self.node, "follows itself"
            case _:
                assert_never(self._role)
        if self._role is Role.LEADER:
            return
        assert not self._progress, "feeds peers and does not lead"
        assert not self._reads.count, "holds reads and does not lead"
        assert self._heartbeat_at == NO_TIMER, "sends heartbeats and does not lead"
        if self._role is not Role.FOLLOWER:
            assert self._may_campaign, "campaigns without being a voter"
            assert self._leader is None, f"campaigns, and believes that {self._leader} leads"
        if self._may_campaign:
            assert self._elect_at != NO_TIMER, "a voter that waits for nothing"

    def _check_leader(self) -> None:
        log = self._log
        assert self._leader == self.node, f"leads, and believes that {self._leader} does"
        assert self._hard_state.voted_for == self.node, "leads without its own vote"
        assert log.last_term == self.term, "leads without an entry of its term"
        assert self._elect_at == NO_TIMER, "leads, and waits for a leader"
        assert not self._forwarded.count, "leads, and waits for another leader's answer"
        members = self.membership.members
        for peer in members:
            assert peer == self.node or peer in self._progress, f"{peer} is a member, and is not fed"
        for peer, progress in self._progress.items():
            progress.check_invariants(self.last_index, self.config)
            assert (progress.departs_at is None) == (peer in members), f"{peer} is fed, and is no member"
        assert (self._heartbeat_at == NO_TIMER) == (not self._progress), "heartbeats without peers, or peers without"
        if self.last_index - self._commit_index < _FEW:
            uncommitted = log.slice(LogIndex(self._commit_index + 1), self.last_index)
            assert self._uncommitted_bytes == sum(len(entry.payload) for entry in uncommitted), "uncommitted bytes"
        if self.membership.members == (self.node,):
            assert self._commit_index == self.last_index, "an only voter commits all that it saved"
