"""The log as the machine sees it: what a snapshot stands for, and the entries around and after it."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from consensus.storage import Entry, EntryKind, Membership, SnapshotMeta, assert_contiguous, decode_membership
from orca.model.ids import LogIndex, Term

_Memberships = tuple[tuple[LogIndex, Membership], ...]


class LogMark(NamedTuple):
    """A place to go back to, see `RaftLog.restore`."""

    base_index: LogIndex
    base_term: Term
    snapshot_index: LogIndex
    snapshot_term: Term
    tail: list[Entry]
    tail_length: int
    tail_bytes: int
    memberships: _Memberships


class RaftLog:
    """(index, term) arithmetic over the entries that it holds in memory.

    The snapshot covers everything up to `snapshot_index`. Entries are held from `base_index + 1` on: some
    that the snapshot covers may stay for followers that are a little behind. `bootstrap` is the
    group as long as neither the snapshot nor an entry names one.

    A membership counts from the moment it is in the log, committed or not (§4.1), so the log knows it.
    """

    def __init__(
        self, snapshot: SnapshotMeta | None, entries: Sequence[Entry], bootstrap: Membership | None = None
    ) -> None:
        meta = snapshot or SnapshotMeta(last_index=LogIndex(0), last_term=Term(0))
        self.base_index = self.snapshot_index = meta.last_index
        self.base_term = self.snapshot_term = meta.last_term
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._memberships: _Memberships = ((meta.last_index, meta.membership or bootstrap or Membership()),)
        self._changed_from: LogIndex | None = None
        self._checked_index = self.base_index
        self.append(entries)
        self._changed_from = None

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
        return self.last_index - self.snapshot_index

    @property
    def tail_bytes(self) -> int:
        """How many bytes their payloads have."""
        return self._tail_bytes

    @property
    def membership(self) -> Membership:
        """The newest membership, committed or not."""
        return self._memberships[-1][1]

    @property
    def membership_index(self) -> LogIndex:
        """The entry that it came with, or the end of the snapshot."""
        return self._memberships[-1][0]

    def membership_at(self, index: LogIndex) -> Membership:
        """The group as of entry `index`, which no snapshot has passed."""
        return next(membership for since, membership in reversed(self._memberships) if since <= index)

    def memberships_since(self, index: LogIndex) -> list[Membership]:
        """The group as of entry `index`, and all that came after it."""
        return [self.membership_at(index), *(membership for since, membership in self._memberships if since > index)]

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index`; None for one that is not held, older or newer."""
        offset = index - self.base_index
        if 0 < offset <= len(self._tail):
            return self._tail[offset - 1].term
        return self.base_term if offset == 0 else None

    def newest_of_term(self, term: Term, upto: LogIndex) -> LogIndex:
        """The newest entry up to `upto` whose term is `term` or an earlier one.

        One less than `base_index` when what is held is all of later terms.
        """
        end = min(upto, self.last_index) - self.base_index
        if end < 0:
            return upto
        found = bisect_right(self._tail, term, hi=end, key=_term_of)
        if found == 0 and self.base_term > term:
            return LogIndex(self.base_index - 1)
        return LogIndex(self.base_index + found)

    def slice(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included; () when `last < first`."""
        if last < first:
            return ()
        assert self.base_index < first, f"entry {first} was compacted away with all up to {self.base_index}"
        assert last <= self.last_index, f"entry {last} lies after the newest, {self.last_index}"
        return tuple(self._tail[first - self.base_index - 1 : last - self.base_index])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they follow the newest without a gap and their terms do not fall."""
        if not entries:
            return
        assert_contiguous(entries, self.last_index)
        term = self.last_term
        size = 0
        for entry in entries:
            assert entry.term >= term, f"entry {entry.index} of term {entry.term} follows one of term {term}"
            term = entry.term
            size += len(entry.payload)
            if entry.kind is EntryKind.MEMBERSHIP:
                self._memberships += ((entry.index, decode_membership(entry.payload)),)
        self._tail_bytes += size
        self._note_change(entries[0].index)
        self._tail.extend(entries)

    def truncate(self, first: LogIndex) -> None:
        """Remove entry `first` and all after it: they were another leader's, and not committed (§3.5)."""
        assert self.snapshot_index < first <= self.last_index, (
            f"cannot truncate from {first}: the log holds {self.snapshot_index + 1} to {self.last_index}"
        )
        kept = first - self.base_index - 1
        self._tail_bytes -= sum(len(entry.payload) for entry in self._tail[kept:])
        # A new list: a LogMark made before still refers to the old one.
        self._tail = self._tail[:kept]
        self._memberships = tuple(pair for pair in self._memberships if pair[0] < first)
        self._checked_index = min(self._checked_index, LogIndex(first - 1))
        self._note_change(first)

    def compact(self, upto: LogIndex, trailing_entries_max: int = 0, trailing_bytes_max: int = 0) -> SnapshotMeta:
        """Let a snapshot stand for the entries up to `upto`; at most so many of them stay in memory."""
        assert self.snapshot_index < upto <= self.last_index, (
            f"cannot compact up to {upto}: the log holds {self.snapshot_index + 1} to {self.last_index}"
        )
        meta = SnapshotMeta(last_index=upto, last_term=self._known_term(upto), membership=self.membership_at(upto))
        covered = self.slice(LogIndex(self.snapshot_index + 1), upto)
        self._tail_bytes -= sum(len(entry.payload) for entry in covered)
        self._memberships = (
            (upto, self.membership_at(upto)),
            *(pair for pair in self._memberships if pair[0] > upto),
        )
        self.snapshot_index, self.snapshot_term = upto, meta.last_term
        self._forget(self._trailing_from(upto, trailing_entries_max, trailing_bytes_max))
        return meta

    def _trailing_from(self, upto: LogIndex, entries_max: int, bytes_max: int) -> LogIndex:
        """The last entry to forget, so that what stays up to `upto` is within both limits."""
        base, size = upto, 0
        while base > max(self.base_index, upto - entries_max):
            size += len(self._tail[base - self.base_index - 1].payload)
            if size > bytes_max:
                break
            base = LogIndex(base - 1)
        return base

    def _forget(self, upto: LogIndex) -> None:
        self.base_term = self._known_term(upto)
        self._tail = self._tail[upto - self.base_index :]
        self.base_index = upto
        self._checked_index = max(self._checked_index, upto)

    def reset(self, meta: SnapshotMeta) -> None:
        """Forget everything: the log is what the snapshot of a leader stands for (§5.3)."""
        assert meta.last_index > self.snapshot_index, f"{meta} goes back behind {self.snapshot_index}"
        self.base_index = self.snapshot_index = self._checked_index = meta.last_index
        self.base_term = self.snapshot_term = meta.last_term
        self._tail, self._tail_bytes = [], 0
        self._memberships = ((meta.last_index, meta.membership or self.membership),)
        self._changed_from = None

    def mark(self) -> LogMark:
        """Where the log is now, and the start of what `unsaved` gives."""
        self._changed_from = None
        return LogMark(
            self.base_index,
            self.base_term,
            self.snapshot_index,
            self.snapshot_term,
            self._tail,
            len(self._tail),
            self._tail_bytes,
            self._memberships,
        )

    def unsaved(self, mark: LogMark) -> tuple[tuple[Entry, ...], LogIndex | None]:
        """The entries that were added since `mark`, and from where on older ones were removed before, if any were."""
        first = self._changed_from
        if first is None:
            return (), None
        was_last = mark.base_index + mark.tail_length
        return self.slice(first, self.last_index), first if first <= was_last else None

    def saved_index(self, mark: LogMark) -> LogIndex:
        """The newest entry that was there at `mark` and still is."""
        was_last = LogIndex(mark.base_index + mark.tail_length)
        return was_last if self._changed_from is None else min(was_last, LogIndex(self._changed_from - 1))

    def restore(self, mark: LogMark) -> None:
        """Undo what was appended, truncated, compacted or reset since `mark`; once, for the newest mark."""
        self.base_index, self.base_term, self.snapshot_index, self.snapshot_term = mark[:4]
        self._tail, length, self._tail_bytes, self._memberships = mark[4:]
        del self._tail[length:]
        self._changed_from = None
        self._checked_index = self.base_index

    def _note_change(self, first: LogIndex) -> None:
        self._changed_from = first if self._changed_from is None else min(self._changed_from, first)

    def _known_term(self, index: LogIndex) -> Term:
        term = self.term_at(index)
        assert term is not None, f"entry {index} is not held: {self.base_index} to {self.last_index} are"
        return term

    def check_invariants(self) -> None:
        """Indexes without a gap, terms that do not fall, the right sum of bytes and the right group.

        Looks at what was not looked at before, so that checks after each step of a long run stay cheap.
        """
        index = min(self._checked_index, self.last_index)
        term = self._known_term(index)
        for entry in self.slice(LogIndex(index + 1), self.last_index):
            assert entry.index == index + 1, f"entry {entry.index} stands at {index + 1}"
            assert entry.term >= term, f"the term falls from {term} to {entry.term} at {entry.index}"
            index, term = entry.index, entry.term
            if entry.kind is EntryKind.MEMBERSHIP:
                named = [since for since, _ in self._memberships]
                assert index <= self.snapshot_index or index in named, f"the membership of entry {index} is not known"
        self._checked_index = index
        assert self.base_index <= self.snapshot_index <= self.last_index, "the snapshot lies outside the log"
        assert self._known_term(self.snapshot_index) == self.snapshot_term, "the snapshot is of another term"
        sinces = [since for since, _ in self._memberships]
        assert sinces == sorted(set(sinces)), f"memberships are out of order: {sinces}"
        assert sinces[0] == self.snapshot_index, f"the first membership is of {sinces[0]}, not of the snapshot"
        assert sinces[-1] <= self.last_index, f"a membership of entry {sinces[-1]}, which is gone"

    def check_bytes(self) -> None:
        """The sum of bytes, counted anew: dear for a long log."""
        tail = self.slice(LogIndex(self.snapshot_index + 1), self.last_index)
        assert self._tail_bytes == sum(len(entry.payload) for entry in tail), "the sum of bytes is wrong"


def _term_of(entry: Entry) -> Term:
    return entry.term
