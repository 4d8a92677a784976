"""The log as the machine sees it: what a snapshot stands for, and the entries after it."""

from collections.abc import Sequence
from typing import NamedTuple

from consensus.storage import Entry, SnapshotMeta, assert_contiguous
from orca.model.ids import LogIndex, Term


class LogMark(NamedTuple):
    """A place to go back to, see `RaftLog.restore`."""

    base_index: LogIndex
    base_term: Term
    tail: list[Entry]
    tail_length: int
    tail_bytes: int


class RaftLog:
    """(index, term) arithmetic over the entries after the snapshot, which it holds in memory."""

    def __init__(self, snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> None:
        self.base_index = LogIndex(0) if snapshot is None else snapshot.last_index
        self.base_term = Term(0) if snapshot is None else snapshot.last_term
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self.append(entries)

    @property
    def last_index(self) -> LogIndex:
        """The index of the newest entry; what the snapshot ends with when there is none after it."""
        return LogIndex(self.base_index + len(self._tail))

    @property
    def last_term(self) -> Term:
        """The term of the newest entry."""
        return self._tail[-1].term if self._tail else self.base_term

    @property
    def tail_entries(self) -> int:
        """How many entries follow the snapshot."""
        return len(self._tail)

    @property
    def tail_bytes(self) -> int:
        """How many bytes their payloads have."""
        return self._tail_bytes

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index`; None before the snapshot's last entry and after the newest."""
        if index == self.base_index:
            return self.base_term
        if not self.base_index < index <= self.last_index:
            return None
        return self._tail[index - self.base_index - 1].term

    def slice(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included; () when `last < first`."""
        if last < first:
            return ()
        assert self.base_index < first, f"entry {first} was compacted away with all up to {self.base_index}"
        assert last <= self.last_index, f"entry {last} lies after the newest, {self.last_index}"
        return tuple(self._tail[first - self.base_index - 1 : last - self.base_index])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they follow the newest without a gap and their terms do not fall."""
        assert_contiguous(entries, self.last_index)
        term = self.last_term
        for entry in entries:
            assert entry.term >= term, f"entry {entry.index} of term {entry.term} follows one of term {term}"
            term = entry.term
            self._tail_bytes += len(entry.payload)
        self._tail.extend(entries)

    def compact(self, upto: LogIndex) -> SnapshotMeta:
        """Forget the entries up to `upto`, which a snapshot now stands for."""
        assert self.base_index < upto <= self.last_index, (
            f"cannot compact up to {upto}: the log holds {self.base_index + 1} to {self.last_index}"
        )
        covered = upto - self.base_index
        last_term = self._tail[covered - 1].term
        # A new list: a LogMark made before still refers to the old one.
        self._tail_bytes -= sum(len(entry.payload) for entry in self._tail[:covered])
        self._tail = self._tail[covered:]
        self.base_index, self.base_term = upto, last_term
        return SnapshotMeta(last_index=upto, last_term=last_term)

    def mark(self) -> LogMark:
        """Where the log is now; good until the log was changed, restored and changed again."""
        return LogMark(self.base_index, self.base_term, self._tail, len(self._tail), self._tail_bytes)

    def restore(self, mark: LogMark) -> None:
        """Undo what was appended or compacted since `mark`."""
        self.base_index, self.base_term, self._tail, length, self._tail_bytes = mark
        del self._tail[length:]

    def check_invariants(self) -> None:
        """Indexes without a gap, terms that do not fall, and the right sum of bytes."""
        term = self.base_term
        for offset, entry in enumerate(self._tail, start=1):
            assert entry.index == self.base_index + offset, f"entry {entry.index} stands at {self.base_index + offset}"
            assert entry.term >= term, f"the term falls from {term} to {entry.term} at {entry.index}"
            term = entry.term
        assert self._tail_bytes == sum(len(entry.payload) for entry in self._tail), "the sum of bytes is wrong"
