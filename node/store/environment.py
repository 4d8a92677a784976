"""One LMDB environment a data directory: short reads, and writes by one thread."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import lmdb
import msgspec
import trio

from node.store import soundness
from node.store.directory import DataDirectory, sync_directory
from node.store.views import Database, Handles, ReadView, WriteView
from node.store.writer import Job, WriterThread
from orca.errors import (
    InvalidConfigError,
    NotAvailableError,
    OrcaError,
    StoreCorruptError,
    StoreFullError,
)
from orca.model.units import format_bytes

T = TypeVar("T")

MAP_BYTES_DEFAULT: Final = 2**30
MAP_BYTES_MIN: Final = 2**19
QUEUE_MAX: Final = 1024
GROUP_MAX: Final = 256
FREE_DISK_BYTES_MIN: Final = 16 * 2**20
"""LMDB reports a write that a full disk cut short as EIO; with less free than this it was that."""
CLOSE_TIMEOUT_S: Final = 30.0


class StoreUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How full the store is.

    `used_bytes` is what its pages take, writes that grow are refused from `limit_bytes` on,
    `file_bytes` is what the file takes on the disk. `commit_running_s` says for how
    long the disk has not answered the commit that runs now, 0 without one.
    """

    used_bytes: int
    limit_bytes: int
    map_bytes_max: int
    file_bytes: int
    commit_running_s: float


class Environment:
    """The store of a node; `open` makes one."""

    def __init__(self, data_path: Path, environment: lmdb.Environment, handles: Handles, map_bytes_max: int) -> None:
        self.data_path = data_path
        self.map_bytes_max = map_bytes_max
        self.limit_bytes = map_bytes_max // 8 * 7
        """Writes that leave more than this in use, and more than before, are refused."""
        self._lmdb = environment
        self._handles = handles
        self._page_bytes = environment.stat()["psize"]
        self._broken: StoreCorruptError | None = None
        self._commit_began_at: float | None = None
        self._is_closed = False
        # Half of the queue at most for tasks that wait, so that threads always find room.
        self._slots = trio.Semaphore(QUEUE_MAX // 2)
        self._writer: WriterThread[WriteView] = WriterThread(self._commit, queue_max=QUEUE_MAX, group_max=GROUP_MAX)

    @classmethod
    def open(cls, directory: DataDirectory, *, map_bytes_max: int = MAP_BYTES_DEFAULT) -> "Environment":
        """Open the store of `directory`, or make it where there is none yet. Blocks.

        `map_bytes_max` is how large the file may become; it is sparse and grows as needed.
        A store that is larger already may use what it has. Raises `StoreCorruptError` for files
        that are not a whole Orca store of a known schema, `StoreFullError` when a new one
        has no room on the disk, `InvalidConfigError` for a map below 512 KiB.
        """
        if map_bytes_max < MAP_BYTES_MIN:
            raise InvalidConfigError(
                f"a store of {map_bytes_max} bytes is too small; at least {format_bytes(MAP_BYTES_MIN)} are needed"
            )
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        map_bytes_max = (map_bytes_max + page_bytes - 1) // page_bytes * page_bytes
        store_path = directory.store_path
        if not store_path.is_symlink() and not store_path.exists():
            _make_store(store_path, map_bytes_max)
        data_path = soundness.check_files(store_path)
        with _translated(data_path):
            environment = _open_lmdb(store_path, map_bytes_max)
        try:
            with _translated(data_path):
                soundness.check_schema(_read_schema(environment), data_path)
                handles = {database: environment.open_db(database.value.encode()) for database in Database}
        except OrcaError:
            environment.close()
            raise
        soundness.make_files_private(store_path)
        return cls(data_path, environment, handles, max(map_bytes_max, environment.info()["map_size"]))

    def read(self, reader: Callable[[ReadView], T]) -> T:
        """What `reader` makes of a consistent snapshot; from any thread. Be quick: it blocks the caller.

        The view is good inside `reader` only.
        """
        if self._is_closed:
            raise NotAvailableError("the store of this node is closed")
        with _translated(self.data_path), self._lmdb.begin() as transaction:
            return reader(ReadView(transaction, self._handles))

    async def write(self, change: Callable[[WriteView], T]) -> T:
        """Make `change` durable and give what it returned.

        `change` runs on the writer thread, maybe twice: it must touch nothing but its view. What it
        raises comes out here, with nothing written. Raises `StoreFullError` (nothing
        written) and `NotAvailableError` (too many writes wait, or closed). May be cancelled;
        the change is made or not made then. A hung disk hangs it: give it a deadline.
        """
        async with self._slots:
            return await self._writer.make(change)

    def write_blocking(self, change: Callable[[WriteView], T], timeout_s: float = 60.0) -> T:
        """The same from a worker thread, or before the loop runs.

        Raises `StoreStalledError` when the disk has not answered after `timeout_s`.
        """
        return self._writer.make_blocking(change, timeout_s, str(self.data_path))

    def usage(self) -> StoreUsage:
        """How full it is now."""
        began_at = self._commit_began_at
        return StoreUsage(
            used_bytes=self.read(ReadView.used_bytes),
            limit_bytes=self.limit_bytes,
            map_bytes_max=self.map_bytes_max,
            file_bytes=self.data_path.stat().st_blocks * 512,
            commit_running_s=0.0 if began_at is None else time.monotonic() - began_at,
        )

    def close(self) -> None:
        """Finish the writes that wait and close the file; a second call does nothing. Blocks."""
        if self._is_closed:
            return
        is_done = self._writer.close(CLOSE_TIMEOUT_S)
        self._is_closed = True
        if is_done:
            # Otherwise the writer still uses the map: leave it to the end of the process.
            self._lmdb.close()

    def __enter__(self) -> "Environment":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self, group: list[Job[WriteView]]) -> None:
        """Commit `group` in one transaction, or when that fails each job in one of its own."""
        try:
            results = self._transact(group)
        except Exception as error:  # noqa: BLE001 - whoever asked for the write gets it
            if len(group) == 1:
                group[0].done(None, error)
                return
            for job in group:
                self._commit([job])
            return
        for job, result in zip(group, results, strict=True):
            job.done(result, None)

    def _transact(self, group: list[Job[WriteView]]) -> list[Any]:
        if self._broken is not None:
            raise StoreCorruptError(self._broken.message) from self._broken
        info = self._lmdb.info()
        before_txn, held_bytes = info["last_txnid"], (info["last_pgno"] + 1) * self._page_bytes
        self._commit_began_at = time.monotonic()
        try:
            with _translated(self.data_path), self._lmdb.begin(write=True) as transaction:
                view = WriteView(transaction, self._handles)
                # What is in use is never more than the file holds: far from the limit nobody has to count.
                is_near = held_bytes > self.limit_bytes // 8 * 7
                before_bytes = view.used_bytes() if is_near else held_bytes
                results = [job.change(view) for job in group]
                if is_near or held_bytes + view.growth_bytes_max(self._page_bytes) > self.limit_bytes:
                    self._check_room(before_bytes, view.used_bytes())
            return results
        except StoreCorruptError as error:
            # Only what LMDB says is about the whole store; a change may find fault with a record.
            if isinstance(error.__cause__, lmdb.Error):
                self._broken = error
            raise
        except StoreFullError:
            assert self._lmdb.info()["last_txnid"] == before_txn, "a write that failed for lack of room became visible"
            raise
        finally:
            self._commit_began_at = None

    def _check_room(self, before_bytes: int, after_bytes: int) -> None:
        if after_bytes > self.limit_bytes and after_bytes > before_bytes:
            raise StoreFullError(
                f"the store {self.data_path} is full: {format_bytes(before_bytes)} of "
                f"{format_bytes(self.limit_bytes)} are in use and {format_bytes(after_bytes - before_bytes)} "
                "more were asked for",
                hint="make the store larger in the node's configuration, or remove services that are not needed",
            )


def _make_store(store_path: Path, map_bytes_max: int) -> None:
    """Make an empty store beside its place and move it there, so that it is there whole or not at all."""
    new_path = store_path.with_name(store_path.name + ".new")
    try:
        if new_path.exists():
            shutil.rmtree(new_path)  # left by a process that died here; nothing was in it yet
        new_path.mkdir(mode=0o700)
        with _translated(new_path / "data.mdb"):
            environment = _open_lmdb(new_path, map_bytes_max)
            with environment:
                handle = environment.open_db(Database.META.value.encode())
                with environment.begin(write=True) as transaction:
                    transaction.put(b"schema", soundness.encode_schema(), db=handle)
        sync_directory(new_path)
        new_path.rename(store_path)
        sync_directory(store_path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"no room on the disk for a new store at {store_path}") from error
        raise StoreCorruptError(f"cannot make the store {store_path}: {error.strerror}") from error


def _open_lmdb(store_path: Path, map_bytes_max: int) -> lmdb.Environment:
    return lmdb.open(os.fspath(store_path), map_size=map_bytes_max, max_dbs=32, mode=0o600, readahead=False)


def _read_schema(environment: lmdb.Environment) -> bytes | None:
    try:
        handle = environment.open_db(Database.META.value.encode(), create=False)
    except lmdb.NotFoundError:
        return None
    with environment.begin() as transaction:
        return transaction.get(b"schema", db=handle)


@contextmanager
def _translated(data_path: Path) -> Iterator[None]:
    """Errors of LMDB as errors of ours."""
    try:
        yield
    except (lmdb.MapFullError, lmdb.TxnFullError) as error:
        raise StoreFullError(f"the store {data_path} is full: no room for this write in its map") from error
    except lmdb.Error as error:
        if _is_disk_full(error, data_path):
            raise StoreFullError(f"the disk below {data_path} is full") from error
        raise StoreCorruptError(
            f"the store {data_path} failed: {error}; no further write is taken. "
            "Check the disk, then start the node again"
        ) from error


def _is_disk_full(error: lmdb.Error, data_path: Path) -> bool:
    code = getattr(error, "code", 0)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return True
    if code != errno.EIO:
        return False
    try:
        room = os.statvfs(data_path)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < FREE_DISK_BYTES_MIN
