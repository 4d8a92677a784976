"""`LogStore` in a file of its own, beside LMDB.

Why not in LMDB: it syncs twice a commit (data, then the page that says which data count) and copies each page on the
way from the root, where a log only ever grows at its end. One synced write for all that waited takes less
than half as long, and that is most of what a change waits for. LMDB keeps what is looked up, and the id of the
log file: without it, or with another one, the node does not start.

Writes are made by one thread, one after the other, so that the loop never waits for the disk.
"""

import secrets
import threading
from pathlib import Path
from typing import Final

import msgspec
import trio

from consensus.storage import (
    Entry,
    LoadedLog,
    LogWrite,
    Snapshot,
    assert_commit,
    assert_contiguous,
    assert_truncation,
    follow,
)
from node.store.environment import Environment
from node.store.lmdb_log import LmdbLog
from node.store.log_file import ID_BYTES, LogFile, encode_change
from node.store.records import seal, unseal
from node.store.soundness import encode_schema
from node.store.views import Database, WriteView
from node.store.writer import Job, WriterThread
from orca.errors import StoreFullError, StoreStalledError
from orca.model.ids import LogIndex
from orca.model.units import format_bytes

STALLED_S: Final = 60.0
FILE_NAME: Final = "raft.log"
QUIET_BYTES_MAX: Final = 4 * 2**20
"""Writes without entries are not what compaction counts: after so many bytes of them the file is written anew."""
_ENTRY_BYTES: Final = 16
"""What an entry takes besides its payload."""
_CLOSE_S: Final = 30.0
_FILE_ID: Final = b"log_file"


class FileLogStore:
    """The log beside the environment of the node. All calls but `save` block: make them from a thread."""

    def __init__(self, environment: Environment, file: LogFile, loaded: LoadedLog) -> None:
        self.environment = environment
        self._file = file
        self._bytes_max = environment.limit_bytes
        self._lock = threading.Lock()
        self._kept = LoadedLog()
        self._entries: list[Entry] = []
        self._quiet_bytes = 0
        self._remember(loaded)
        self._writer: WriterThread[LogFile] = WriterThread(self._perform, queue_max=64, group_max=1, name="log-writer")

    @classmethod
    def open(cls, environment: Environment) -> "FileLogStore":
        """The log of the node whose `environment` this is; one in LMDB, of an older release, is moved to the file.

        Raises `StoreCorruptError` for what is not a whole log of this node, `StoreFullError` without room for one.
        """
        path = environment.data_path.parent / FILE_NAME
        record = environment.read(lambda view: view.get(Database.RAFT, _FILE_ID))
        if record is None:
            file = _make_file(environment, path)
        else:
            what = f"the id of the log in {environment.data_path}"
            file = LogFile.open(path, unseal(record, what, salt=_FILE_ID))
        return cls(environment, file, file.read())

    def load(self) -> LoadedLog:
        """Everything that is kept, each record checked. Raises `StoreCorruptError`."""
        with self._lock:
            return self._file.read()

    def write(self, batch: LogWrite) -> None:
        """Make `batch` durable. Raises `StoreFullError` with nothing written, `StoreStalledError` when unknown."""
        self._writer.make_blocking(lambda _file: self._write(batch), STALLED_S, str(self._file.path))

    async def save(self, batch: LogWrite) -> None:
        """`write` from the trio loop; cancelled, it is written or not."""
        with trio.move_on_after(STALLED_S) as scope:
            await self._writer.make(lambda _file: self._write(batch))
        if scope.cancelled_caught:
            raise StoreStalledError(
                f"the disk did not confirm a write of the log in {STALLED_S:g} s; it may still be made"
            )

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """The entries from `first` to `last`, both included; the log must have them all. Reads all of it."""
        loaded = self.load()
        lowest, highest = loaded.snapshot_index + 1, loaded.last_index
        assert lowest <= first <= last <= highest, f"{first} to {last} is not within {lowest} to {highest}"
        return loaded.entries[first - lowest : last - lowest + 1]

    def reset(self) -> None:
        """Forget everything; on disk when it returns. Only for a log that was set aside."""
        self._writer.make_blocking(lambda _file: self._begin(LoadedLog()), STALLED_S, str(self._file.path))

    def close(self) -> None:
        """Finish what waits and give the file back; a second call does nothing."""
        if self._writer.close(_CLOSE_S):
            self._file.close()

    def __enter__(self) -> "FileLogStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ on the writer thread

    def _perform(self, group: list[Job[LogFile]]) -> None:
        for job in group:
            try:
                with self._lock:
                    result = job.change(self._file)
            except Exception as error:  # noqa: BLE001 - whoever asked for the write gets it
                job.done(None, error)
            else:
                job.done(result, None)

    def _write(self, batch: LogWrite) -> None:
        if batch.snapshot is not None or self._quiet_bytes > QUIET_BYTES_MAX:
            # What follows the snapshot is at hand; the snapshot itself is not, and seldom needed.
            now = self._file.read() if batch.snapshot is None else self._now()
            after = follow(now, batch)
            self._check_room(_size_of(after))
            self._begin(after)
            return
        base_index, last_index = self._kept.snapshot_index, self._last_index
        if batch.truncate_from is not None:
            assert_truncation(batch.truncate_from, base_index, last_index)
            last_index = LogIndex(batch.truncate_from - 1)
        assert_contiguous(batch.entries, last_index)
        if batch.commit_index is not None:
            assert_commit(batch.commit_index, LogIndex(last_index + len(batch.entries)))
        body = encode_change(batch)
        before = self._file.end_bytes
        self._check_room(before + len(body))
        self._file.append(body)
        del self._entries[last_index - base_index :]
        self._entries += batch.entries
        self._kept = msgspec.structs.replace(
            self._kept,
            hard_state=batch.hard_state or self._kept.hard_state,
            commit_index=LogIndex(max(self._kept.commit_index, batch.commit_index or 0)),
        )
        if not batch.entries:
            self._quiet_bytes += self._file.end_bytes - before

    @property
    def _last_index(self) -> LogIndex:
        return LogIndex(self._kept.snapshot_index + len(self._entries))

    def _now(self) -> LoadedLog:
        """What the file holds, without the bytes of the snapshot."""
        return msgspec.structs.replace(self._kept, entries=tuple(self._entries))

    def _begin(self, loaded: LoadedLog) -> None:
        """A new file: with a snapshot, or with nothing."""
        self._file.rewrite(loaded)
        self._remember(loaded)

    def _remember(self, loaded: LoadedLog) -> None:
        """Entries are what Raft has in memory too; of the snapshot only what it stands for."""
        snapshot = None if loaded.snapshot is None else Snapshot(meta=loaded.snapshot.meta, payload=b"")
        self._kept = msgspec.structs.replace(loaded, snapshot=snapshot, entries=())
        self._entries = list(loaded.entries)
        self._quiet_bytes = 0

    def _check_room(self, after_bytes: int) -> None:
        if after_bytes > self._bytes_max and after_bytes > self._file.end_bytes:
            raise StoreFullError(
                f"the log {self._file.path} is full: {format_bytes(self._file.end_bytes)} of "
                f"{format_bytes(self._bytes_max)} are in use",
                hint="make the store larger in the node's configuration, or remove services that are not needed",
            )


def _size_of(loaded: LoadedLog) -> int:
    """About how many bytes a file with it has."""
    snapshot = 0 if loaded.snapshot is None else len(loaded.snapshot.payload)
    return snapshot + sum(len(entry.payload) + _ENTRY_BYTES for entry in loaded.entries)


def _make_file(environment: Environment, path: Path) -> LogFile:
    """A new file with what LMDB holds of a log; LMDB says whose it is, and forgets its own, last and in one go."""
    file_id = secrets.token_bytes(ID_BYTES)
    file = LogFile.create(path, file_id, LmdbLog(environment).load())

    def settle(view: WriteView) -> None:
        view.put(Database.RAFT, _FILE_ID, seal(file_id, salt=_FILE_ID))
        view.put(Database.META, b"schema", encode_schema())
        LmdbLog.forget(view)

    environment.write_blocking(settle)
    return file
