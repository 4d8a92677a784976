"""A disk that keeps what was synced, and of the rest what it likes.

A write is a record with a checksum at the end of a file. Between `stage` and `sync` it is in a cache: a
crash leaves any number of its bytes behind, whole sectors of them possibly wrong. What a new life finds is
all records up to the first that is not whole, which is how the log file of a node behaves (`node.store.log_file`).
"""

import struct
import zlib
from typing import Final

import msgspec

from consensus.storage import Entry, LoadedLog, LogWrite, follow
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, Term
from simulations.world import Chance

_HEADER: Final = struct.Struct("<II")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LogWrite] = msgspec.msgpack.Decoder(LogWrite)


class DiskCounts(msgspec.Struct, kw_only=True):
    """What happened. `lost`, `torn`, `survived`: unsynced records that a crash removed, cut or left whole."""

    writes: int = 0
    refused: int = 0
    lost: int = 0
    torn: int = 0
    survived: int = 0


class SimulatedDisk:
    """A `LogStore`, which also lives through crashes.

    With `bytes_max` it refuses what would make payloads and snapshot larger than that and larger than they
    are; while `is_full` it refuses everything. `is_lying`: it says that it synced and did not (a planted bug).
    """

    def __init__(self, chance: Chance, *, bytes_max: int | None = None) -> None:
        self.counts = DiskCounts()
        self.bytes_max = bytes_max
        self.is_full = False
        self.is_lying = False
        self._chance = chance
        self._synced = LoadedLog()
        self._visible = LoadedLog()
        self._cache: list[LogWrite] = []
        self._is_open = True

    @property
    def durable(self) -> LoadedLog:
        """What is there after a crash, whatever the crash does."""
        return self._synced

    def open(self) -> "SimulatedDisk":
        """A new life opens it."""
        self._is_open = True
        return self

    def load(self) -> LoadedLog:
        """Everything that is kept."""
        self._assert_open()
        return self._visible

    def stage(self, batch: LogWrite) -> None:
        """Write `batch` into the cache; raises StoreFullError with nothing written."""
        self._assert_open()
        after = follow(self._visible, batch)
        if self.is_full:
            self.counts.refused += 1
            raise StoreFullError("no space left on the simulated disk")
        if self.bytes_max is not None:
            size = _payload_bytes(after)
            if size > self.bytes_max and size > _payload_bytes(self._visible):
                self.counts.refused += 1
                raise StoreFullError(f"the disk may hold {self.bytes_max} bytes and would hold {size}")
        self._visible = after
        self._cache.append(batch)

    def sync(self) -> None:
        """What is in the cache becomes durable."""
        self._assert_open()
        self.counts.writes += 1
        if not self.is_lying:
            self._synced = self._visible
            self._cache.clear()

    def write(self, batch: LogWrite) -> None:
        """Make `batch` durable; raises StoreFullError with nothing written."""
        self.stage(batch)
        self.sync()

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """The entries from `first` to `last`, both included."""
        self._assert_open()
        lowest, highest = self._visible.snapshot_index + 1, self._visible.last_index
        assert lowest <= first <= last <= highest, f"{first} to {last} is not within {lowest} to {highest}"
        return self._visible.entries[first - lowest : last - lowest + 1]

    def reset(self) -> None:
        """Forget everything, durably."""
        self._assert_open()
        self._synced = self._visible = LoadedLog()
        self._cache.clear()

    def close(self) -> None:
        """No other call but `open` may follow."""
        self._is_open = False

    def crash(self) -> None:
        """Power is gone: of what was not synced a random part is left."""
        self._is_open = False
        file = b"".join(_record(batch) for batch in self._cache)
        kept = bytearray(file[: self._chance.between(0, len(file))])
        if kept and self._chance.happens(0.3):  # a sector that did not make it
            place = self._chance.between(0, len(kept) - 1)
            kept[place : place + 16] = bytes(len(kept[place : place + 16]))
        survivors = _whole_records(bytes(kept))
        self.counts.survived += len(survivors)
        self.counts.lost += len(self._cache) - len(survivors)
        self.counts.torn += len(kept) > sum(len(_record(batch)) for batch in survivors)
        self._cache.clear()
        for batch in survivors:
            self._synced = follow(self._synced, batch)
        self._visible = self._synced

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index` as written; None for one that is covered, or not there."""
        snapshot = self._visible.snapshot
        if snapshot is not None and index == snapshot.meta.last_index:
            return snapshot.meta.last_term
        offset = index - self._visible.snapshot_index
        if 0 < offset <= len(self._visible.entries):
            return self._visible.entries[offset - 1].term
        return Term(0) if index == 0 else None

    def _assert_open(self) -> None:
        assert self._is_open, "the store is closed"


def _record(batch: LogWrite) -> bytes:
    body = _encoder.encode(batch)
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


def _whole_records(file: bytes) -> list[LogWrite]:
    """The records up to the first that is cut or damaged."""
    batches: list[LogWrite] = []
    place = 0
    while place + _HEADER.size <= len(file):
        size, checksum = _HEADER.unpack_from(file, place)
        body = file[place + _HEADER.size : place + _HEADER.size + size]
        if len(body) < size or zlib.crc32(body) != checksum or not body:
            break
        batches.append(_decoder.decode(body))
        place += _HEADER.size + size
    return batches


def _payload_bytes(loaded: LoadedLog) -> int:
    snapshot = 0 if loaded.snapshot is None else len(loaded.snapshot.payload)
    return snapshot + sum(len(entry.payload) for entry in loaded.entries)
