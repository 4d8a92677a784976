"""Elections (§3.4, §3.6.1), and handing leadership over (§3.10).

Asked for first (§9.6), so that they do not depose a leader that works (§4.2.3, §6.2).
"""

from consensus.raft.core import NO_TIMER, Role
from consensus.raft.events import TransferRequested
from consensus.raft.membership import MembershipChanges
from consensus.raft.messages import PreVote, PreVoteReply, RequestVote, TimeoutNow, VoteReply
from consensus.raft.quorum import Verdict, VoteTally
from consensus.storage import Entry, HardState
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant


class Elections(MembershipChanges):
    """The part of the machine that decides who leads."""

    # Asking.

    def _on_election_timeout(self) -> None:
        """No leader was heard of: ask whether an election could succeed (§9.6)."""
        self._set_leader(None)
        self._role = Role.PRE_CANDIDATE
        self._begin_tally()
        self._restart_election_timer()
        if self._tally.verdict is Verdict.WON:
            self._campaign(is_transfer=False)
            return
        message = PreVote(term=self.term, epoch=self.epoch, last_index=self.last_index, last_term=self._log.last_term)
        self._ask_voters(message)

    def _campaign(self, *, is_transfer: bool) -> None:
        """Move to a new term and vote for itself; the others are asked when that is on disk (§3.4, §3.8)."""
        self._set_leader(None)
        self._hard_state = HardState(term=Term(self.term + 1), voted_for=self.node, epoch=self.epoch)
        self._seen_forwards.clear()
        self._role = Role.CANDIDATE
        self._begin_tally()
        self._restart_election_timer()
        if self._tally.verdict is Verdict.WON:
            self._become_leader()
            return
        message = RequestVote(
            term=self.term,
            epoch=self.epoch,
            last_index=self.last_index,
            last_term=self._log.last_term,
            is_transfer=is_transfer,
        )
        self._ask_voters(message)

    def _begin_tally(self) -> None:
        """Its own vote is the first."""
        self._tally = VoteTally(self.membership.voters)
        self._tally.record(self.node, is_granted=True)

    def _ask_voters(self, message: PreVote | RequestVote) -> None:
        for voter in self.membership.voters:
            if voter != self.node:
                self._send_early(voter, message)

    def _on_pre_vote_reply(self, sender: NodeId, message: PreVoteReply) -> None:
        if self._role is not Role.PRE_CANDIDATE or message.for_term != self.term:
            return
        self._tally.record(sender, message.is_granted)
        if self._tally.verdict is Verdict.WON:
            self._campaign(is_transfer=False)

    def _on_vote_reply(self, sender: NodeId, message: VoteReply) -> None:
        if self._role is not Role.CANDIDATE:
            return
        self._tally.record(sender, message.is_granted)
        match self._tally.verdict:
            case Verdict.WON:
                self._become_leader()
            case Verdict.LOST:
                # Somebody campaigns too. Try again soon, each at another time.
                self._role = Role.FOLLOWER
                self._restart_election_timer(0.2, 1.0)
            case Verdict.PENDING:
                pass

    def _become_leader(self) -> None:
        """Append a no-op: with it entries of earlier terms are committed, and known to be (§3.6.2, §6.4)."""
        self._role = Role.LEADER
        self._set_leader(self.node)
        self._elect_at = NO_TIMER
        self._round = 0
        self._progress = {}
        uncommitted = self._log.slice(LogIndex(self._commit_index + 1), self.last_index)
        # What was committed earlier in this step is taken off when it is handed out, at its end.
        pending = self._log.slice(LogIndex(self._applied_index + 1), self.last_index)
        self._uncommitted_bytes = sum(len(entry.payload) for entry in pending)
        self._append_own([Entry(term=self.term, index=LogIndex(self.last_index + 1), payload=b"")])
        self._match_peers()
        self._note(f"leads term {self.term}; {len(uncommitted)} entries of earlier terms are committed with its first")

    # Answering.

    def _on_pre_vote(self, sender: NodeId, message: PreVote) -> None:
        """Promise nothing, change nothing: not even the term (§9.6)."""
        is_granted = message.term >= self.term and self._is_up_to_date(message) and not self._knows_living_leader()
        reply = PreVoteReply(term=self.term, epoch=self.epoch, for_term=message.term, is_granted=is_granted)
        self._send_late(sender, reply)
        if self.is_leader:
            self._feed_removed(sender)

    def _on_request_vote(self, sender: NodeId, message: RequestVote) -> None:
        """Vote once a term, for a log that is as complete as this one (§3.4, §3.6.1).

        Who hears a leader takes no notice, not even of the term, unless that leader wants it so:
        a removed or a returning node must not depose it (§4.2.3). Whether the sender is a member
        is not asked: this node's idea of the group may be old (§4.1).
        """
        if message.term > self.term:
            if self._knows_living_leader() and not message.is_transfer:
                return
            self._become_follower(message.term, None)
        is_granted = message.term == self.term and self._may_vote_for(sender) and self._is_up_to_date(message)
        if is_granted and self._hard_state.voted_for is None:
            self._hard_state = HardState(term=self.term, voted_for=sender, epoch=self.epoch)
        if is_granted:
            self._role = Role.FOLLOWER
            self._restart_election_timer()
        self._send_late(sender, VoteReply(term=self.term, epoch=self.epoch, is_granted=is_granted))

    def _may_vote_for(self, candidate: NodeId) -> bool:
        return self._leader is None and self._hard_state.voted_for in (None, candidate)

    def _is_up_to_date(self, message: PreVote | RequestVote) -> bool:
        """Whether the candidate's log is as complete as this one: the later last term, then the longer (§3.6.1)."""
        return (message.last_term, message.last_index) >= (self._log.last_term, self.last_index)

    def _knows_living_leader(self) -> bool:
        """Whether a leader was heard of within the shortest election timeout (§4.2.3).

        A leader knows of itself as long as a quorum answers it.
        """
        if self.is_leader:
            return self._has_quorum_contact()
        if self._leader is None:
            return False
        return self._now - self._leader_contact_at < self.config.election_timeout_s

    # The leader's clock.

    def _on_heartbeat_timeout(self) -> None:
        """Say that it lives; but step down when no quorum answers: it cannot commit, and another may lead (§6.2)."""
        if not self._has_quorum_contact():
            self._note(f"leads no more: no quorum answered for {self.config.election_timeout_s:g} s")
            self._become_follower(self.term, None)
            return
        if self._transfer_to is not None and self._now >= self._transfer_until:
            self._note(f"{self._transfer_to} did not take over in time; this node goes on leading")
            self._transfer_to = None
        self._forget_departed()
        self._send_heartbeats()
        is_alone = not self._progress
        self._heartbeat_at = NO_TIMER if is_alone else Instant(self._now + self.config.heartbeat_s)

    # Handing over.

    def _on_transfer_requested(self, event: TransferRequested) -> None:
        """Bring the heir up to date, taking nothing new meanwhile, then tell it to campaign (§3.10)."""
        if not self.is_leader:
            self._note("does not lead, so it has nothing to hand over")
            return
        heir = event.to or self._best_heir()
        if heir == self.node or heir not in self.membership.voters:
            self._note(f"leadership cannot be handed to {heir}: it is no other voter")
            return
        self._transfer_to = heir
        self._transfer_until = Instant(self._now + self.config.election_timeout_s)
        self._transfer_round = -1

    def _hand_over(self) -> None:
        """Tell the heir as soon as its log is complete, and again with each heartbeat until time is up."""
        heir = self._transfer_to
        progress = None if heir is None else self._progress.get(heir)
        if heir is None or progress is None or progress.match_index < self.last_index:
            return
        if self._transfer_round == self._round:
            return
        self._transfer_round = self._round
        self._send_late(heir, TimeoutNow(term=self.term, epoch=self.epoch))

    def _on_timeout_now(self, sender: NodeId, _message: TimeoutNow) -> None:
        """The leader hands over: campaign at once, and with its leave (§3.10). Only a voter can."""
        if self._leader == sender and self.is_voter and not self.is_leader:
            self._campaign(is_transfer=True)

    def _lead(self) -> None:
        super()._lead()
        if self.is_leader:
            self._hand_over()

    def _match_timer(self) -> None:
        """Who becomes a voter waits for a leader from now on; who is none any more does not campaign."""
        if self.is_leader:
            return
        may_campaign = self._may_campaign
        if may_campaign == (self._elect_at == NO_TIMER):
            self._restart_election_timer()
        if not may_campaign:
            self._role = Role.FOLLOWER
