"""Bugs in the protocol: the real machine with one rule broken."""

from typing import Any

from consensus.raft import MembershipChange, RaftMachine
from consensus.raft.core import NO_TIMER
from consensus.raft.messages import AppendEntries, Heartbeat, PreVote, RequestVote
from consensus.raft.proposals import Refusal
from consensus.raft.quorum import VoteTally, quorum_size
from consensus.storage import Entry, HardState, LoadedLog
from orca.model.ids import LogIndex, NodeId, Term

# Each class says what it does wrong. They override what the real machine calls, and nothing else.


class CommitsOldTerms(RaftMachine):
    """Commits entries of earlier terms by counting copies (thesis, figure 3.7)."""

    def _may_commit(self, index: LogIndex) -> bool:
        return index > 0


class VotesTwice(RaftMachine):
    """Votes for whoever asks, again and again in one term."""

    def _may_vote_for(self, candidate: NodeId) -> bool:
        return self._leader is None

    def _on_request_vote(self, sender: NodeId, message: RequestVote) -> None:
        if message.term == self.term and not self.is_leader and self._hard_state.voted_for != self.node:
            self._hard_state = HardState(term=self.term, voted_for=None, epoch=self.epoch)
        super()._on_request_vote(sender, message)


class ForgetsVoteAtRestart(RaftMachine):
    """Begins a life without the vote of the last one."""

    def __init__(self, node: NodeId, voters: frozenset[NodeId], loaded: LoadedLog, *rest: Any) -> None:
        kept = loaded.hard_state
        forgetful = LoadedLog(
            hard_state=HardState(term=kept.term, epoch=kept.epoch), snapshot=loaded.snapshot, entries=loaded.entries
        )
        super().__init__(node, voters, forgetful, *rest)


class ForgetsTermAtRestart(RaftMachine):
    """Begins a life in the term of its newest entry."""

    def __init__(self, node: NodeId, voters: frozenset[NodeId], loaded: LoadedLog, *rest: Any) -> None:
        snapshot_term = Term(0) if loaded.snapshot is None else loaded.snapshot.meta.last_term
        term = loaded.entries[-1].term if loaded.entries else snapshot_term
        forgetful = LoadedLog(
            hard_state=HardState(term=term, epoch=loaded.hard_state.epoch),
            snapshot=loaded.snapshot,
            entries=loaded.entries,
        )
        super().__init__(node, voters, forgetful, *rest)


class IgnoresLogs(RaftMachine):
    """Votes for a candidate whose log is older than its own."""

    def _is_up_to_date(self, message: PreVote | RequestVote) -> bool:
        return True


class WinsWithMinority(RaftMachine):
    """Leads with one vote too few."""

    def _begin_tally(self) -> None:
        others = [voter for voter in self.membership.voters if voter != self.node]
        self._tally = VoteTally([self.node, *others[: max(0, len(others) - 2)]])
        self._tally.record(self.node, is_granted=True)


class TruncatesWithoutConflict(RaftMachine):
    """Drops what follows the entries of an append, even of an old one: PySyncObj's first bug."""

    def _store(self, entries: tuple[Entry, ...]) -> None:
        if entries and entries[0].index <= self.last_index and entries[0].index > self._commit_index:
            self._log.truncate(entries[0].index)
            self._log.append(entries)
        else:
            super()._store(entries)


class SkipsLogMatching(RaftMachine):
    """Stores entries after one that is not the leader's."""

    def _on_append_entries(self, sender: NodeId, message: AppendEntries) -> None:
        prev_term = self._log.term_at(message.prev_index)
        if prev_term is not None and prev_term != message.prev_term and message.prev_index > self._commit_index:
            prev_term_here = AppendEntries(
                term=message.term,
                epoch=message.epoch,
                prev_index=message.prev_index,
                prev_term=prev_term,
                entries=message.entries,
                commit_index=message.commit_index,
            )
            if all(entry.term >= prev_term for entry in message.entries):
                super()._on_append_entries(sender, prev_term_here)
                return
        super()._on_append_entries(sender, message)


class BelievesCommitIndex(RaftMachine):
    """Takes all that it holds for committed that lies below the leader's commit index."""

    def _on_append_entries(self, sender: NodeId, message: AppendEntries) -> None:
        super()._on_append_entries(sender, message)
        self._commit_to(min(message.commit_index, self.last_index))


class TellsCommitTooFar(RaftMachine):
    """Heartbeats carry the commit index to followers that may hold other entries there."""

    def _send_heartbeats(self) -> None:
        self._round += 1
        for peer in self._progress:
            message = Heartbeat(term=self.term, epoch=self.epoch, commit_index=self._commit_index, round=self._round)
            self._send_early(peer, message)


class CountsUnsavedEntries(RaftMachine):
    """A leader counts its own entries before they are on its disk, and says so."""

    def _lead(self) -> None:
        if self._advance_commit(self.last_index):
            self._tell_commit(is_saved=True)
        super()._lead()


class CountsLearners(RaftMachine):
    """Copies at learners count for a quorum."""

    def _advance_commit(self, own_index: LogIndex) -> bool:
        members = self.membership
        stored = sorted(
            (own_index if one == self.node else self._progress[one].match_index for one in members.members),
            reverse=True,
        )
        reached = stored[quorum_size(len(members.voters)) - 1]
        if reached > self._commit_index and self._may_commit(reached):
            self._commit_index = reached
            return True
        return False


class ReadsWithoutQuorum(RaftMachine):
    """Answers reads without asking whether it still leads."""

    def _quorum_round(self) -> int:
        return self._round


class ReadsBeforeOwnCommit(RaftMachine):
    """A new leader answers reads before an entry of its term is committed."""

    def _begin_read_round(self) -> None:
        if self._reads.has_waiting:
            self._send_heartbeats()
            self._reads.begin_round(self._round, self._commit_index)


class ChangesTwiceAtOnce(RaftMachine):
    """Begins a change of the group while another one is under way."""

    def _membership_refusal(self, change: MembershipChange) -> Refusal | None:
        refusal = super()._membership_refusal(change)
        is_wait = refusal is not None and ("not committed" in refusal.detail or "is committed yet" in refusal.detail)
        return None if is_wait else refusal


class ReusesIndexes(RaftMachine):
    """Goes on leading after a failed save, and gives the same indexes to other entries."""

    def _on_save_failed(self, detail: str) -> None:
        undo = self._undo
        if undo is None or not self.is_leader or undo.mark.leader != self.node:
            super()._on_save_failed(detail)
            return
        progress, heartbeat_at = self._progress, self._heartbeat_at
        super()._on_save_failed(detail)
        self._role, self._leader, self._progress = undo.mark.role, self.node, progress
        self._heartbeat_at, self._elect_at = heartbeat_at, NO_TIMER
        for one in progress.values():
            one.match_index = min(one.match_index, self.last_index)
            one.probe(LogIndex(min(one.next_index, self.last_index + 1)))


class CampaignsInSameTerm(RaftMachine):
    """A candidate that lost campaigns again in the same term."""

    def _campaign(self, *, is_transfer: bool) -> None:
        if self._hard_state.voted_for is not None and self.term > 0:
            self._hard_state = HardState(term=Term(self.term - 1), voted_for=None, epoch=self.epoch)
        super()._campaign(is_transfer=is_transfer)


class RefusesSnapshotTail(RaftMachine):
    """Acknowledges a snapshot when its first piece is there."""

    def _ask_for_more(self, sender: NodeId, last_index: LogIndex) -> None:
        self._acknowledge(sender, last_index)


MACHINES: tuple[type[RaftMachine], ...] = (
    CommitsOldTerms,
    VotesTwice,
    ForgetsVoteAtRestart,
    ForgetsTermAtRestart,
    IgnoresLogs,
    WinsWithMinority,
    CampaignsInSameTerm,
    TruncatesWithoutConflict,
    SkipsLogMatching,
    BelievesCommitIndex,
    TellsCommitTooFar,
    CountsUnsavedEntries,
    CountsLearners,
    ReadsWithoutQuorum,
    ReadsBeforeOwnCommit,
    ChangesTwiceAtOnce,
    ReusesIndexes,
    RefusesSnapshotTail,
)
