"""What Raft keeps on disk, and the store that keeps it.

A store holds three things: the hard state (term, vote, epoch), at most one
snapshot, and the entries after it without a gap. They change together, in one
`LogWrite`, which is on disk as a whole when `write` returns, or not at all
(Ongaro's thesis §3.8: answer an RPC only after updating stable storage).
Everything here is synchronous: a driver calls it from a thread, a simulator directly.
"""

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term


class EntryKind(enum.Enum):
    """Whom an entry speaks to: the replicated state, or Raft itself. The numbers are on disk."""

    NORMAL = 1
    MEMBERSHIP = 2


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One place in the log; `payload` is opaque, and empty in the no-op of a new leader.

    In an entry of kind MEMBERSHIP the payload is an encoded `Membership`.
    """

    term: Term
    index: LogIndex
    payload: bytes
    kind: EntryKind = EntryKind.NORMAL


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Who belongs to the group: voters count for a quorum, learners only store (§4.2.1).

    Both are sorted, and nobody is in both; raises ValueError otherwise.
    """

    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()

    def __post_init__(self) -> None:
        for nodes in (self.voters, self.learners):
            if list(nodes) != sorted(set(nodes)):
                raise ValueError(f"members are sorted and named once, these are not: {nodes}")
        if set(self.voters) & set(self.learners):
            raise ValueError(f"nobody is both voter and learner: {self.voters} and {self.learners}")

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Voters and learners, sorted."""
        return tuple(sorted((*self.voters, *self.learners)))


def encode_membership(membership: Membership) -> bytes:
    """The payload of an entry of kind MEMBERSHIP."""
    return msgspec.msgpack.encode(membership)


def decode_membership(payload: bytes) -> Membership:
    """What `encode_membership` was given; raises ValueError for anything else."""
    try:
        return msgspec.msgpack.decode(payload, type=Membership)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{len(payload)} bytes are no membership of a group: {error}") from error


class HardState(msgspec.Struct, frozen=True, kw_only=True):
    """What a voter must never forget: its term and whom it voted for in that term.

    `epoch` counts how often the group was started anew after it had lost its quorum for good.
    """

    term: Term = Term(0)
    voted_for: NodeId | None = None
    epoch: int = 0


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The last entry that a snapshot stands for.

    `membership` is the group as of that entry; None in a snapshot of a group that never changed,
    written by a release that knew of one voter only.
    """

    last_index: LogIndex
    last_term: Term
    membership: Membership | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The replicated state after `meta.last_index`, in bytes that Raft does not read."""

    meta: SnapshotMeta
    payload: bytes


class LoadedLog(msgspec.Struct, frozen=True, kw_only=True):
    """All that a store holds; the default is what a new store holds.

    `commit_index`: so far the log is known to be committed. More of it may be; who comes back
    without a leader can act on this much at once.
    """

    hard_state: HardState = HardState()
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    commit_index: LogIndex = LogIndex(0)

    @property
    def snapshot_index(self) -> LogIndex:
        """The last index that the snapshot stands for, 0 without one."""
        return LogIndex(0) if self.snapshot is None else self.snapshot.meta.last_index

    @property
    def last_index(self) -> LogIndex:
        """The index of the last entry, or of the snapshot when there is none after it."""
        return self.entries[-1].index if self.entries else self.snapshot_index


class LogWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One durable change, made in the order of its fields.

    1. `hard_state` replaces the old one. 2. Entries from `truncate_from` on are removed.
    3. `entries` follow the last one without a gap. 4. `snapshot` replaces the old one,
    and the entries that it covers go. When the log has no entry with the index and the
    term of the snapshot's last one, all entries go (Raft §7, a snapshot from a leader). 5. So far as
    `commit_index` the log that results is committed; a lower one than before changes nothing.
    """

    hard_state: HardState | None = None
    truncate_from: LogIndex | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    commit_index: LogIndex | None = None


class LogStore(Protocol):
    """A durable log; `tests/contracts/log_store.py` says the same in tests."""

    def load(self) -> LoadedLog:
        """Everything that is kept. Raises `StoreCorruptError` rather than guess."""
        ...

    def write(self, batch: LogWrite) -> None:
        """Make `batch` durable, all of it or nothing.

        Raises `StoreFullError` with nothing written. A batch that leaves a gap, removes
        what a snapshot covers or goes back behind a snapshot is a bug: AssertionError,
        nothing written.
        """
        ...

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """The entries from `first` to `last`, both included; the log must have them all."""
        ...

    def reset(self) -> None:
        """Forget everything; on disk when it returns. Only for a log that was set aside."""
        ...

    def close(self) -> None:
        """Give the store back; no other call may follow."""
        ...


def follow(loaded: LoadedLog, batch: LogWrite) -> LoadedLog:
    """What a store that holds `loaded` holds after `batch`; AssertionError for a batch that no store may take."""
    entries = loaded.entries
    if batch.truncate_from is not None:
        assert_truncation(batch.truncate_from, loaded.snapshot_index, loaded.last_index)
        entries = tuple(entry for entry in entries if entry.index < batch.truncate_from)
    last_index = entries[-1].index if entries else loaded.snapshot_index
    assert_contiguous(batch.entries, last_index)
    entries += batch.entries
    snapshot = loaded.snapshot
    if batch.snapshot is not None:
        meta = batch.snapshot.meta
        assert_newer_snapshot(meta, loaded.snapshot_index)
        snapshot = batch.snapshot
        is_known = any(entry.index == meta.last_index and entry.term == meta.last_term for entry in entries)
        entries = tuple(entry for entry in entries if entry.index > meta.last_index) if is_known else ()
    hard_state = loaded.hard_state if batch.hard_state is None else batch.hard_state
    after = LoadedLog(hard_state=hard_state, snapshot=snapshot, entries=entries)
    commit_index = LogIndex(max(loaded.commit_index, batch.commit_index or 0))
    assert_commit(commit_index, after.last_index)
    return msgspec.structs.replace(after, commit_index=commit_index)


def assert_commit(commit_index: LogIndex, last_index: LogIndex) -> None:
    """What is not there cannot be known to be committed."""
    assert commit_index <= last_index, f"entry {commit_index} cannot be committed: the log ends with {last_index}"


def assert_truncation(truncate_from: LogIndex, snapshot_index: LogIndex, last_index: LogIndex) -> None:
    """Only entries that exist may be removed from the end."""
    assert snapshot_index < truncate_from <= last_index, (
        f"cannot truncate from {truncate_from}: the log holds {snapshot_index + 1} to {last_index}"
    )


def assert_contiguous(entries: Sequence[Entry], last_index: LogIndex) -> None:
    """Entries follow the last one without a gap."""
    for offset, entry in enumerate(entries, start=1):
        assert entry.index == last_index + offset, f"entry {entry.index} follows {last_index + offset - 1}: a gap"


def assert_newer_snapshot(meta: SnapshotMeta, snapshot_index: LogIndex) -> None:
    """A snapshot never goes back."""
    assert meta.last_index > snapshot_index, (
        f"a snapshot up to {meta.last_index} cannot replace one up to {snapshot_index}"
    )


class MemoryLogStore:
    """A `LogStore` in memory, for tests and simulations.

    A write is durable when it returned, so a crash loses nothing of it. With
    `bytes_max` it refuses, as a full disk does, what would make payloads and snapshot
    larger than that and larger than they are.
    """

    def __init__(self, *, bytes_max: int | None = None, kept: LoadedLog | None = None) -> None:
        self.bytes_max = bytes_max
        self._kept = kept or LoadedLog()
        self._is_open = True

    def load(self) -> LoadedLog:
        """Everything that is kept."""
        self._assert_open()
        return self._kept

    def write(self, batch: LogWrite) -> None:
        """Keep `batch`; raises `StoreFullError` with nothing written."""
        self._assert_open()
        after = follow(self._kept, batch)
        if self.bytes_max is not None:
            size = _payload_bytes(after)
            if size > self.bytes_max and size > _payload_bytes(self._kept):
                raise StoreFullError(f"the store may hold {self.bytes_max} bytes and would hold {size}")
        self._kept = after

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """The entries from `first` to `last`, both included."""
        self._assert_open()
        lowest, highest = self._kept.snapshot_index + 1, self._kept.last_index
        assert lowest <= first <= last <= highest, f"{first} to {last} is not within {lowest} to {highest}"
        return self._kept.entries[first - lowest : last - lowest + 1]

    def reset(self) -> None:
        """Forget everything."""
        self._assert_open()
        self._kept = LoadedLog()

    def close(self) -> None:
        """No other call may follow."""
        self._is_open = False

    def crash(self) -> "MemoryLogStore":
        """The store as a new process finds it; this one is of no use any more."""
        self._is_open = False
        return MemoryLogStore(bytes_max=self.bytes_max, kept=self._kept)

    def _assert_open(self) -> None:
        assert self._is_open, "the store is closed"


def _payload_bytes(loaded: LoadedLog) -> int:
    snapshot = 0 if loaded.snapshot is None else len(loaded.snapshot.payload)
    return snapshot + sum(len(entry.payload) for entry in loaded.entries)
