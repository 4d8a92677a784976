"""One file with all that Raft keeps: hard state, snapshot, entries.

    base       the id of the file, hard state, what the snapshot stands for, and how long this part is
    snapshot   its bytes, if there is one
    change     entries that follow it
    --- so far it was written in one go, under another name, synced and then renamed ---
    change     one for each write: hard state, truncation, entries, commit index
    zeros      up to the next multiple of `STEP_BYTES`

A change is one record, written in place of zeros that are on the disk already, so a sync has no size of a
file to keep beside it: one write with O_DSYNC is durable when it returns. What makes the file longer makes it longer by
`STEP_BYTES`, so that few writes do. A snapshot begins a new file, and so bounds it.

Whatever is wrong with the part that was renamed is damage. After that the last record alone may be cut off, as
`log_records` has it; it was never answered, and its remains are overwritten with zeros before anything is written.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from consensus.storage import (
    Entry,
    EntryKind,
    HardState,
    LoadedLog,
    LogWrite,
    Snapshot,
    SnapshotMeta,
    assert_contiguous,
    decode_membership,
)
from node.store.directory import sync_directory
from node.store.log_records import STEP_BYTES, VERSION, Record, encode_record, flaw_of_tail, read_record, read_records
from node.store.soundness import WAY_OUT
from orca.errors import StoreCorruptError, StoreFullError
from orca.model.ids import LogIndex, Term

T = TypeVar("T")

ENTRIES_A_RECORD: Final = 1024
ID_BYTES: Final = 16
_FORMAT: Final = "orca-raft-log"
_BASE, _SNAPSHOT, _CHANGE = 1, 2, 3
_TERM_MAX: Final = 2**56 - 1
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Base(msgspec.Struct, frozen=True, kw_only=True):
    """The first record."""

    format: str
    file_id: bytes
    rest_bytes: int
    """Of the part that was renamed, what follows this record."""
    hard_state: HardState
    commit_index: LogIndex
    snapshot: SnapshotMeta | None


class _Change(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A `LogWrite` without its snapshot."""

    hard_state: HardState | None = None
    truncate_from: LogIndex | None = None
    entries: tuple[Entry, ...] = ()
    commit_index: LogIndex | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_base_decoder: Final = msgspec.msgpack.Decoder(_Base)
_change_decoder: Final = msgspec.msgpack.Decoder(_Change)


def encode_change(batch: LogWrite) -> bytes:
    """The body of the record that stands for `batch`."""
    return _encoder.encode(
        _Change(
            hard_state=batch.hard_state,
            truncate_from=batch.truncate_from,
            entries=batch.entries,
            commit_index=batch.commit_index,
        )
    )


class LogFile:
    """An open log file. Its calls block; one at a time."""

    def __init__(self, path: Path, file_id: bytes) -> None:
        self.path = path
        self._id = file_id
        self._fd: int | None = None
        self._end = 0
        self._size = 0
        self._broken: StoreCorruptError | None = None

    @classmethod
    def create(cls, path: Path, file_id: bytes, loaded: LoadedLog) -> "LogFile":
        """A new file that holds `loaded`, in place of whatever is at `path`; raises StoreFullError."""
        file = cls(path, file_id)
        file.rewrite(loaded)
        return file

    @classmethod
    def open(cls, path: Path, file_id: bytes) -> "LogFile":
        """The file at `path`, read and checked. Raises StoreCorruptError."""
        file = cls(path, file_id)
        file._check_path()
        with file._guarded():
            file._open()
        file._clear_remains()
        return file

    @property
    def end_bytes(self) -> int:
        """So much of it is in use."""
        return self._end

    def read(self) -> LoadedLog:
        """Everything that it holds, each record checked. Raises StoreCorruptError."""
        data = self._read()
        loaded, end = _Reader(data, self._id, str(self.path)).read()
        if end != self._end:
            raise self._damaged(f"its records end at byte {end}, and {self._end} bytes were written")
        return loaded

    def append(self, body: bytes) -> None:
        """Make a change durable.

        Raises StoreFullError with nothing written, StoreCorruptError when nobody knows what is on the disk: from
        then on always.
        """
        self._check_broken()
        record = encode_record(self._id, self._end, _CHANGE, body)
        end = self._end + len(record)
        size = max(self._size, _round_up(end))
        data = record if size == self._size else record + bytes(size - end)
        try:
            _write_all(self._fd_now(), data, self._end)
        except OSError as error:
            self._take_back()
            raise self._failure(error) from error
        self._end, self._size = end, size

    def rewrite(self, loaded: LoadedLog) -> None:
        """Begin a new file with `loaded`, durably, in place of this one. Raises as `append` does."""
        self._check_broken()
        new_path = self.path.with_name(self.path.name + ".new")
        try:
            end, size = _write_new(new_path, list(_pieces(self._id, loaded)))
            new_path.rename(self.path)
        except OSError as error:
            with suppress(OSError):
                new_path.unlink(missing_ok=True)
            raise self._failure(error) from error
        with self._guarded():
            sync_directory(self.path.parent)
            self._open()
        self._end, self._size = end, size

    def close(self) -> None:
        """Give the file back; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    # ------------------------------------------------------------------ below

    def _open(self) -> None:
        self.close()
        self._fd = os.open(self.path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _fd_now(self) -> int:
        assert self._fd is not None, "the log file is closed"
        return self._fd

    def _read(self) -> bytes:
        fd = self._fd_now()
        with self._guarded():
            size = os.fstat(fd).st_size
            pieces = []
            place = 0
            while place < size and (piece := os.pread(fd, size - place, place)):
                pieces.append(piece)
                place += len(piece)
        return b"".join(pieces)

    def _check_path(self) -> None:
        try:
            found = self.path.lstat()
        except OSError as error:
            raise self._damaged(f"it cannot be read ({error.strerror})") from error
        if not stat.S_ISREG(found.st_mode):
            raise self._damaged("it is not a regular file")
        if found.st_uid != os.geteuid():
            raise StoreCorruptError(
                f"{self.path} belongs to user {found.st_uid}, this process runs as {os.geteuid()}; change its owner"
            )
        if stat.S_IMODE(found.st_mode) != 0o600:
            self.path.chmod(0o600)
        self.path.with_name(self.path.name + ".new").unlink(missing_ok=True)

    def _clear_remains(self) -> None:
        """Find the end, and see that nothing but zeros follows."""
        data = self._read()
        _, self._end = _Reader(data, self._id, str(self.path)).read()
        # Of a size that is no multiple the rest does not count, so that the next write past it makes it one.
        self._size = len(data) // STEP_BYTES * STEP_BYTES
        if any(data[self._end :]):
            try:
                _write_all(self._fd_now(), bytes(len(data) - self._end), self._end)
            except OSError as error:
                raise self._failure(error) from error

    def _take_back(self) -> None:
        """A write failed: nothing of it may be found by a later life, nor by who reads what is written next."""
        try:
            fd = self._fd_now()
            _write_all(fd, bytes(os.fstat(fd).st_size - self._end), self._end)
        except OSError as error:
            self._broken = StoreCorruptError(_failed(self.path, error))

    def _failure(self, error: OSError) -> StoreFullError | StoreCorruptError:
        if self._broken is None and error.errno in _FULL:
            return StoreFullError(f"the disk below {self.path} is full")
        self._broken = self._broken or StoreCorruptError(_failed(self.path, error))
        return StoreCorruptError(self._broken.message)

    def _check_broken(self) -> None:
        if self._broken is not None:
            raise StoreCorruptError(self._broken.message) from self._broken

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Errors of the disk as errors of ours; none of them is one to go on after."""
        try:
            yield
        except OSError as error:
            self._broken = StoreCorruptError(_failed(self.path, error))
            raise self._broken from error

    def _damaged(self, what: str) -> StoreCorruptError:
        return StoreCorruptError(f"{self.path}: {what}: {WAY_OUT}")


def _failed(path: Path, error: OSError) -> str:
    return (
        f"the store {path} failed: {error.strerror or error}; no further write is taken. "
        "Check the disk, then start the node again"
    )


def _write_all(fd: int, data: bytes, place: int) -> None:
    done = os.pwrite(fd, data, place)
    while done < len(data):  # a disk that is nearly full takes a part; the next call says why
        done += os.pwrite(fd, data[done:], place + done)


def _write_new(path: Path, pieces: list[bytes]) -> tuple[int, int]:
    """Write a synced file; where its content ends, and its size."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = 0
        for piece in pieces:
            _write_all(fd, piece, end)
            end += len(piece)
        size = _round_up(end)
        _write_all(fd, bytes(size - end), end)
        os.fsync(fd)
    finally:
        os.close(fd)
    return end, size


def _round_up(size: int) -> int:
    """With at least some room behind."""
    return (size // STEP_BYTES + 1) * STEP_BYTES


def _pieces(file_id: bytes, loaded: LoadedLog) -> Iterator[bytes]:
    """The part that is written in one go: the base first, which says how long the rest is."""
    bodies = []
    if loaded.snapshot is not None:
        bodies.append((_SNAPSHOT, loaded.snapshot.payload))
    for start in range(0, len(loaded.entries), ENTRIES_A_RECORD):
        batch = LogWrite(entries=loaded.entries[start : start + ENTRIES_A_RECORD])
        bodies.append((_CHANGE, encode_change(batch)))
    head_bytes = len(encode_record(file_id, 0, 0, b""))
    base = _encoder.encode(
        _Base(
            format=_FORMAT,
            file_id=file_id,
            rest_bytes=sum(head_bytes + len(body) for _, body in bodies),
            hard_state=loaded.hard_state,
            commit_index=loaded.commit_index,
            snapshot=None if loaded.snapshot is None else loaded.snapshot.meta,
        )
    )
    place = 0
    for kind, body in ((_BASE, base), *bodies):
        # Whose file it is only the base says.
        record = encode_record(b"" if kind == _BASE else file_id, place, kind, body)
        place += len(record)
        yield record


class _Reader:
    """Makes a log of the bytes of a file."""

    def __init__(self, data: bytes, file_id: bytes, name: str) -> None:
        self._data = data
        self._id = file_id
        self._name = name
        self._hard_state = HardState()
        self._entries: list[Entry] = []
        self._commit_index = LogIndex(0)
        self._snapshot: Snapshot | None = None

    def read(self) -> tuple[LoadedLog, int]:
        """The log and where its records end."""
        base, place = self._read_base()
        self._hard_state, self._commit_index = base.hard_state, base.commit_index
        base_end = place + base.rest_bytes
        is_first = True
        for record in read_records(self._data, self._id, place):
            self._check_version(record, place)
            if is_first and base.snapshot is not None:
                if record.kind != _SNAPSHOT:
                    raise self._damaged(f"byte {place} should begin the snapshot")
                self._snapshot = Snapshot(meta=base.snapshot, payload=record.body)
            else:
                self._take(record, place)
            is_first, place = False, record.end
        if place < base_end or (is_first and base.snapshot is not None):
            raise self._damaged(f"the record at byte {place} is damaged")
        flaw = flaw_of_tail(self._data, self._id, place)
        if flaw:
            raise self._damaged(flaw)
        if self._commit_index > self._last_index:
            raise self._damaged(f"it ends with entry {self._last_index}, and {self._commit_index} was committed")
        loaded = LoadedLog(
            hard_state=self._hard_state,
            snapshot=self._snapshot,
            entries=tuple(self._entries),
            commit_index=self._commit_index,
        )
        return loaded, place

    @property
    def _base_index(self) -> LogIndex:
        return LogIndex(0) if self._snapshot is None else self._snapshot.meta.last_index

    @property
    def _last_index(self) -> LogIndex:
        return LogIndex(self._base_index + len(self._entries))

    def _read_base(self) -> tuple[_Base, int]:
        record = read_record(self._data, b"", 0)
        if record is None:
            raise self._damaged("it does not begin as the log of an Orca node does")
        self._check_version(record, 0)
        base = self._decode(_base_decoder, record.body, 0)
        if record.kind != _BASE or base.format != _FORMAT:
            raise self._damaged("it is not the log of an Orca node")
        if base.file_id != self._id:
            raise self._damaged("it is the log of another node, or of another time of this one")
        return base, record.end

    def _check_version(self, record: Record, place: int) -> None:
        if record.version > VERSION:
            raise StoreCorruptError(
                f"{self._name}: the record at byte {place} has version {record.version}, and this program reads up to "
                f"{VERSION}: it was written by a newer version of Orca; start that version"
            )

    def _decode(self, decoder: "msgspec.msgpack.Decoder[T]", body: bytes, place: int) -> T:
        try:
            return decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(f"the record at byte {place} cannot be read ({error})") from error

    def _take(self, record: Record, place: int) -> None:
        if record.kind != _CHANGE:
            raise self._damaged(f"the record at byte {place} is of kind {record.kind}, which cannot be")
        change = self._decode(_change_decoder, record.body, place)
        try:
            self._apply(change)
        except (AssertionError, ValueError) as error:
            raise self._damaged(f"the record at byte {place} does not follow those before ({error})") from error
        self._hard_state = change.hard_state or self._hard_state
        self._commit_index = max(self._commit_index, change.commit_index or LogIndex(0))

    def _apply(self, change: _Change) -> None:
        if change.truncate_from is not None:
            kept = change.truncate_from - self._base_index - 1
            assert 0 <= kept < len(self._entries), f"it truncates from {change.truncate_from}"
            del self._entries[kept:]
        assert_contiguous(change.entries, self._last_index)
        term = self._entries[-1].term if self._entries else self._base_term
        for entry in change.entries:
            assert term <= entry.term <= _TERM_MAX, f"entry {entry.index} is of term {entry.term} after {term}"
            term = entry.term
            if entry.kind is EntryKind.MEMBERSHIP:
                decode_membership(entry.payload)
        self._entries += change.entries

    @property
    def _base_term(self) -> Term:
        return Term(0) if self._snapshot is None else self._snapshot.meta.last_term

    def _damaged(self, what: str) -> StoreCorruptError:
        return StoreCorruptError(f"{self._name}: {what}: {WAY_OUT}")
