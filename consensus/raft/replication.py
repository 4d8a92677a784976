"""Log replication (§3.5, §3.6): a leader feeds its peers and commits, a follower stores and follows."""

from consensus.raft.core import NO_TIMER
from consensus.raft.messages import AppendEntries, AppendReply, Heartbeat, HeartbeatReply
from consensus.raft.progress import PeerState, Progress
from consensus.raft.quorum import reached_by_quorum
from consensus.raft.snapshots import Snapshots
from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId, Term


class Replication(Snapshots):
    """The part of the machine that moves the log."""

    # The leader's side.

    def _append_own(self, entries: list[Entry]) -> None:
        """Entries of a leader: they are sent, saved and counted when the step ends."""
        self._log.append(entries)
        self._uncommitted_bytes += sum([len(entry.payload) for entry in entries])

    def _feed_peers(self) -> None:
        """Send each peer what it lacks, as far as its window allows (§10.2.1).

        Peers that are equally far get the same message, so that a driver encodes it once.
        """
        made: dict[LogIndex, AppendEntries] = {}
        for peer, progress in self._progress.items():
            self._feed(peer, progress, made)

    def _feed(self, peer: NodeId, progress: Progress, made: dict[LogIndex, AppendEntries]) -> None:
        while progress.state is not PeerState.SNAPSHOT and progress.next_index <= self.last_index:
            if self._log.term_at(LogIndex(progress.next_index - 1)) is None:
                break
            if not progress.has_room(self.config):
                return
            message = made.get(progress.next_index)
            if message is None:
                message = made[progress.next_index] = self._make_append(progress.next_index)
            last_index = LogIndex(message.prev_index + len(message.entries))
            progress.sent(last_index, sum([len(entry.payload) for entry in message.entries]), self._round)
            progress.tell(min(message.commit_index, last_index), self._round)
            self._send_early(peer, message)
        if progress.state is PeerState.SNAPSHOT or progress.next_index <= self.last_index:
            self._feed_snapshot(peer, progress)

    def _make_append(self, first: LogIndex) -> AppendEntries:
        prev_index = LogIndex(first - 1)
        prev_term = self._log.term_at(prev_index)
        assert prev_term is not None, f"entry {prev_index} is not held"
        return AppendEntries(
            term=self.term,
            epoch=self.epoch,
            prev_index=prev_index,
            prev_term=prev_term,
            entries=self._entries_for_append(first),
            commit_index=self._commit_index,
        )

    def _entries_for_append(self, first: LogIndex) -> tuple[Entry, ...]:
        """Entries from `first` on that fit into one append; one at least."""
        last = min(self.last_index, LogIndex(first + self.config.append_entries_max - 1))
        entries = self._log.slice(first, last)
        if sum([len(entry.payload) for entry in entries]) <= self.config.append_bytes_max:
            return entries
        count, size = 0, 0
        for entry in entries:
            size += len(entry.payload)
            if count and size > self.config.append_bytes_max:
                break
            count += 1
        return entries[:count]

    def _on_append_reply(self, sender: NodeId, message: AppendReply) -> None:
        progress = self._progress.get(sender)
        if progress is None:
            return
        if message.is_accepted:
            if message.index > self.last_index:
                self._note(
                    f"{sender} says that it stores entry {message.index}, and the log ends with {self.last_index}"
                )
                return
            if progress.accepted(message.index):
                progress.catch_up.observe(progress.match_index, self.last_index, self._now)
        elif not progress.is_stale_refusal(message.index):
            progress.probe(self._next_probe(message))

    def _next_probe(self, message: AppendReply) -> LogIndex:
        """Where to try next after a refusal: a whole term is skipped at a time (§3.5, at its end).

        The follower has nothing common with us after its hint; we have nothing of the hint's term or
        an earlier one after what `newest_of_term` finds. So the logs may agree there at the latest.
        """
        newest = self._log.newest_of_term(message.hint_term, message.hint_index)
        return LogIndex(max(1, min(message.index, newest + 1)))

    def _advance_commit(self, own_index: LogIndex) -> bool:
        """Commit what a quorum stores, if the newest of it is of this term (§3.6.2); whether that moved anything.

        `own_index` is how far this node's own log is on disk. A leader that is no voter, because it
        is being removed, does not count itself (§4.2.2).
        """
        stored = [
            own_index if voter == self.node else self._progress[voter].match_index
            for voter in self._log.membership.voters
        ]
        reached = LogIndex(reached_by_quorum(stored))
        if reached <= self._commit_index or not self._may_commit(reached):
            return False
        self._commit_index = reached
        return True

    def _may_commit(self, index: LogIndex) -> bool:
        """Entries of earlier terms are committed only with one of this term after them (§3.6.2, figure 3.7)."""
        return self._log.term_at(index) == self.term

    @property
    def _has_committed_own(self) -> bool:
        """Whether an entry of this term is committed: only then does a leader know what is (§6.4)."""
        return self._log.term_at(self._commit_index) == self.term

    def _tell_commit(self, *, is_saved: bool) -> None:
        """Tell peers at once what is committed, unless an append told them; nobody answers this."""
        for peer, progress in self._progress.items():
            commit_index = min(self._commit_index, progress.match_index)
            if commit_index > progress.told_commit:
                progress.tell(commit_index, self._round)
                message = Heartbeat(term=self.term, epoch=self.epoch, commit_index=commit_index)
                (self._send_early if is_saved else self._send_late)(peer, message)

    def _send_heartbeats(self) -> None:
        """A new round: who answers it followed this leader when it was sent (§6.4), and got what was sent before."""
        self._round += 1
        for peer, progress in self._progress.items():
            # Never more than the peer is known to store: it may have forgotten nothing, but not learnt it yet.
            commit_index = min(self._commit_index, progress.match_index)
            progress.tell(commit_index, self._round)
            message = Heartbeat(term=self.term, epoch=self.epoch, commit_index=commit_index, round=self._round)
            self._send_early(peer, message)

    def _on_heartbeat_reply(self, sender: NodeId, message: HeartbeatReply) -> None:
        progress = self._progress.get(sender)
        if progress is not None and message.round <= self._round:
            progress.answered_heartbeat(message.round)
            progress.catch_up.observe(progress.match_index, self.last_index, self._now)

    def _on_peer_unreachable(self, peer: NodeId) -> None:
        """What was on its way is lost: ask with one message instead of sending many into the void."""
        progress = self._progress.get(peer)
        if progress is not None and progress.state is PeerState.REPLICATE:
            progress.probe(LogIndex(progress.match_index + 1))
        elif peer == self._leader:
            self._give_up_forwarded(NO_TIMER)

    # The follower's side.

    def _follow(self, sender: NodeId) -> bool:
        """`sender` leads this term; whether that can be (§3.4: one leader a term at most)."""
        if self.is_leader or (self._leader is not None and self._leader != sender):
            self._note(f"{sender} claims to lead term {self.term}, which {self._leader} leads: not believed")
            return False
        self._become_follower(self.term, sender)
        self._leader_contact_at = self._now
        self._restart_election_timer()
        return True

    def _on_heartbeat(self, sender: NodeId, message: Heartbeat) -> None:
        self._commit_to(min(message.commit_index, self.last_index))
        if message.round:
            self._send_late(sender, HeartbeatReply(term=self.term, epoch=self.epoch, round=message.round))

    def _on_append_entries(self, sender: NodeId, message: AppendEntries) -> None:
        """Store what follows an entry that both have; say where to look otherwise (§3.5)."""
        if message.prev_index < self._commit_index:
            # An old message, or a leader that does not know how far we are: what is committed is the same.
            self._acknowledge(sender, self._commit_index)
            return
        if self._log.term_at(message.prev_index) != message.prev_term:
            self._refuse(sender, message)
            return
        self._store(message.entries)
        stored = LogIndex(message.prev_index + len(message.entries))
        # Only what this message compared is known to equal the leader's log (§3.5, step 5).
        self._commit_to(min(message.commit_index, stored))
        self._acknowledge(sender, stored)

    def _refuse(self, sender: NodeId, message: AppendEntries) -> None:
        hint = self._log.newest_of_term(message.prev_term, min(message.prev_index, self.last_index))
        hint = max(hint, self._log.base_index)
        reply = AppendReply(
            term=self.term,
            epoch=self.epoch,
            is_accepted=False,
            index=message.prev_index,
            hint_index=hint,
            hint_term=self._log.term_at(hint) or Term(0),
        )
        self._send_late(sender, reply)

    def _store(self, entries: tuple[Entry, ...]) -> None:
        """Append what is new. An old message is no reason to forget anything: only a conflict is (§3.5, step 3)."""
        known = 0
        if entries and entries[0].index <= self.last_index:
            for entry in entries:
                term = self._log.term_at(entry.index)
                if term != entry.term:
                    if term is not None:
                        self._remove_conflict(entry.index)
                    break
                known += 1
        self._log.append(entries[known:] if known else entries)

    def _remove_conflict(self, first: LogIndex) -> None:
        assert first > self._commit_index, f"entry {first} is committed up to {self._commit_index}, and conflicts"
        self._log.truncate(first)

    # Of a leader, at the end of each step.

    def _lead(self) -> None:
        """Commit what was reported, feed the peers, then count what this step saves on the own disk.

        Messages that leave before the save must not call committed what is on this disk only (§10.2.1).
        """
        self._advance_commit(self._log.saved_index(self._mark.log))
        self._feed_peers()
        self._tell_commit(is_saved=True)
        if self._advance_commit(self.last_index):
            self._tell_commit(is_saved=False)
