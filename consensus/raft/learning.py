"""What a node learns of the committed log from others than its leader (`consensus.feed`).

Only committed entries come this way, so nothing has to be compared or answered: two
sources cannot disagree (state machine safety, §3.6.3). A node that is no member follows the
group like this; so does one that was removed while it was away, and does not know it yet.
"""

from consensus.raft.core import NO_TIMER, Role
from consensus.raft.effects import Outranked
from consensus.raft.election import Elections
from consensus.raft.events import EntriesLearned, SnapshotLearned
from consensus.raft.recovery import LogPosition
from consensus.storage import Entry, HardState, Snapshot
from orca.model.ids import LogIndex, Term
from orca.model.units import Instant


class Learning(Elections):
    """The part of the machine that takes in committed entries."""

    # For those who learn from this node.

    def term_of(self, index: LogIndex) -> Term | None:
        """The term of entry `index`; None for one that is not held. That of 0 is 0 before compaction."""
        return self._log.term_at(index)

    def committed(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included, which are committed and held."""
        assert last <= self._commit_index, f"entry {last} is not committed, {self._commit_index} is"
        return self._log.slice(first, last)

    @property
    def position(self) -> LogPosition:
        """How much this node's log holds."""
        return LogPosition(self.epoch, self._log.last_term, self.last_index)

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot."""
        return self._snapshot

    @property
    def leader_contact_at(self) -> Instant | None:
        """When a leader was last heard of; now, in effect, for a leader itself. None before the first time."""
        if self.is_leader:
            return self._now
        return None if self._leader_contact_at == float("-inf") else self._leader_contact_at

    # What comes.

    def _on_learned(self, event: EntriesLearned | SnapshotLearned) -> None:
        if self._is_outranked or self.is_leader or not self._is_life_of(event.epoch):
            return
        if isinstance(event, SnapshotLearned):
            self._learn_snapshot(event)
        else:
            self._learn_entries(event)

    def _is_life_of(self, epoch: int) -> bool:
        """Whether it belongs to the same life of the group; a higher one outranks what is held here."""
        if epoch > self.epoch:
            if not self._is_blank:
                self._outrank(epoch)
                return False
            self._adopt(epoch)
        return epoch == self.epoch

    def _reach_term(self, term: Term) -> None:
        if term > self.term:
            self._become_follower(term, None)

    def _learn_entries(self, event: EntriesLearned) -> None:
        news = tuple(entry for entry in event.entries if entry.index > self._commit_index)
        # Right after what is committed here: entries of this log in between may be a deposed leader's.
        if news and news[0].index == self._commit_index + 1:
            self._reach_term(news[-1].term)
            self._store(news)
            self._commit_to(news[-1].index)
        self._reach_term(event.term)
        # Somebody to pass proposals on to; whoever campaigns does not hear that leader itself, and goes on.
        is_lost = self._leader is None and self._role is Role.FOLLOWER
        if event.leader is not None and event.leader != self.node and event.term == self.term and is_lost:
            self._set_leader(event.leader)

    def _learn_snapshot(self, event: SnapshotLearned) -> None:
        meta = event.snapshot.meta
        if meta.last_index <= self._commit_index:
            return
        self._reach_term(meta.last_term)
        if self._log.term_at(meta.last_index) == meta.last_term:
            self._commit_to(LogIndex(meta.last_index))
        else:
            self._restore(event.snapshot)

    @property
    def _is_blank(self) -> bool:
        """Whether it holds nothing that could contradict anybody: a term alone belongs to no life of the group."""
        return self.last_index == 0 and not self.membership.members

    def _adopt(self, epoch: int) -> None:
        """Belong to this life of the group from now on: its votes and leaders are others."""
        self._become_follower(self.term, None)
        self._hard_state = HardState(term=self.term, voted_for=None, epoch=epoch)

    def _outrank(self, epoch: int) -> None:
        """Do nothing any more: what this node knows was given up."""
        self._become_follower(self.term, None)
        self._is_outranked = True
        self._elect_at = NO_TIMER
        self._outranked.append(Outranked(epoch=epoch))
