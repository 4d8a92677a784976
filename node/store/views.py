"""One transaction as its users see it: named databases of ordered keys and values."""

import enum
from collections.abc import Iterator, Mapping
from typing import Final

import lmdb

KEY_BYTES_MAX: Final = 511
_LEVELS_MAX: Final = 8
"""A tree of more levels would hold more pages than any map has."""


class Database(enum.Enum):
    """The named databases of the environment and what their keys are."""

    META = "meta"
    """`schema`."""
    LOCAL = "local"
    """Small records of this node under names of their own, such as `identity`."""
    RAFT = "raft"
    """`log_file`, the id of the log's file. In an earlier release what `lmdb_log.py` reads, as the next two."""
    LOG = "log"
    """Raft entries by index, 8 bytes big-endian."""
    SNAPSHOT = "snapshot"
    """Pieces of the snapshot by number, 4 bytes big-endian."""
    EVENTS = "events"
    """Node events by sequence, 8 bytes big-endian."""
    EVENT_INDEX = "event_index"
    """Subject and sequence of each event that has a subject."""
    SERIES_SECONDS = "series_seconds"
    """Figures of each second, by the start of the minute, seconds since 1970, 8 bytes big-endian."""
    SERIES_MEANS = "series_means"
    """Mean and peak of each minute, by the same."""


Handles = Mapping[Database, "lmdb._Database"]  # noqa: SLF001 - the binding has no public name for it


class ReadView:
    """A consistent snapshot of the store; good inside the function that it was given to."""

    def __init__(self, transaction: "lmdb.Transaction[bytes]", handles: Handles) -> None:
        self._transaction = transaction
        self._handles = handles

    def get(self, database: Database, key: bytes) -> bytes | None:
        """The value under `key`, None without one."""
        return self._transaction.get(key, db=self._handles[database])

    def scan(self, database: Database, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from `start` (included) to `stop` (excluded), lowest key first."""
        with self._transaction.cursor(self._handles[database]) as cursor:
            if not (cursor.set_range(start) if start else cursor.first()):
                return
            for key, value in cursor.iternext(keys=True, values=True):
                if stop is not None and key >= stop:
                    return
                yield key, value

    def scan_back(
        self, database: Database, start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """The same range, highest key first."""
        with self._transaction.cursor(self._handles[database]) as cursor:
            is_placed = cursor.last() if stop is None else cursor.set_range(stop)
            if stop is not None:
                # `set_range` stands on the first key that is too high, or nowhere when all are low enough.
                is_placed = cursor.prev() if is_placed else cursor.last()
            if not is_placed:
                return
            for key, value in cursor.iterprev(keys=True, values=True):
                if key < start:
                    return
                yield key, value

    def first_key(self, database: Database) -> bytes | None:
        """The lowest key, None in an empty database."""
        with self._transaction.cursor(self._handles[database]) as cursor:
            return cursor.key() if cursor.first() else None

    def last_key(self, database: Database) -> bytes | None:
        """The highest key, None in an empty database."""
        with self._transaction.cursor(self._handles[database]) as cursor:
            return cursor.key() if cursor.last() else None

    def count(self, database: Database) -> int:
        """How many keys there are."""
        return self._transaction.stat(self._handles[database])["entries"]

    def used_bytes(self, *databases: Database) -> int:
        """What the pages of these databases take, of all without an argument."""
        total = 0
        for database in databases or tuple(Database):
            stat = self._transaction.stat(self._handles[database])
            total += (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"]
        return total


class WriteView(ReadView):
    """A transaction that may also change things; it sees its own changes."""

    def __init__(self, transaction: "lmdb.Transaction[bytes]", handles: Handles) -> None:
        super().__init__(transaction, handles)
        self._puts = 0
        self._put_bytes = 0

    def growth_bytes_max(self, page_bytes: int) -> int:
        """More than what was put can have added to `used_bytes`.

        A value has pages of its own or a place in a leaf, rounded up; each put may split a page at each level of the
        tree, and the root.
        """
        return self._put_bytes + self._puts * (_LEVELS_MAX + 2) * page_bytes

    def put(self, database: Database, key: bytes, value: bytes) -> None:
        """Keep `value` under `key` (1 to 511 bytes), in place of what was there."""
        assert 1 <= len(key) <= KEY_BYTES_MAX, f"a key of {len(key)} bytes in {database.value}: {key[:40]!r}"
        self._puts += 1
        self._put_bytes += len(key) + len(value)
        self._transaction.put(key, value, db=self._handles[database])

    def delete(self, database: Database, key: bytes) -> bool:
        """Remove `key`; False when it was not there."""
        return self._transaction.delete(key, db=self._handles[database])

    def delete_range(self, database: Database, start: bytes = b"", stop: bytes | None = None) -> int:
        """Remove the keys from `start` (included) to `stop` (excluded); how many there were."""
        removed = 0
        with self._transaction.cursor(self._handles[database]) as cursor:
            is_placed = cursor.set_range(start) if start else cursor.first()
            while is_placed and (stop is None or cursor.key() < stop):
                cursor.delete()  # moves on to the next key
                removed += 1
                is_placed = cursor.key() != b""
        return removed
