"""The log as releases before `log_file.py` kept it: in LMDB, one key an entry, the snapshot in pieces.

It is read once, by a release that keeps it in a file, and then taken out of LMDB (`log_store.py`). Each record is
sealed with a checksum that covers its key too, so that one that was torn, changed or put in another's place is found.
Under the seal the first byte is the version of the record, 1. Version 0 had no such byte: its entries begin with
a term below 2**56, so with a zero, and its other records with a MessagePack map, 0x80 to 0x8f. It knew neither kinds
of entries nor the membership of a snapshot, and is read as ordinary entries of a group that never changed.
"""

import struct
from typing import Final, TypeVar

import msgspec

from consensus.storage import (
    Entry,
    EntryKind,
    HardState,
    LoadedLog,
    Snapshot,
    SnapshotMeta,
    decode_membership,
)
from node.store.environment import Environment
from node.store.records import unseal
from node.store.soundness import WAY_OUT
from node.store.views import Database, ReadView, WriteView
from orca.errors import StoreCorruptError
from orca.model.ids import LogIndex, Term

T = TypeVar("T", bound=msgspec.Struct)

RECORD_VERSION: Final = 1
_ENTRY_HEAD: Final = struct.Struct(">BBQ")  # version, kind, term
_OLD_ENTRY_HEAD: Final = struct.Struct(">Q")  # term
_TERM_MAX: Final = 2**56 - 1
_KINDS: Final = {kind.value: kind for kind in EntryKind}
_HARD_STATE: Final = b"hard_state"
_SNAPSHOT_META: Final = b"snapshot_meta"
_COMMITTED: Final = b"committed"


class _SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the snapshot besides its bytes."""

    meta: SnapshotMeta
    payload_bytes: int


class _CommittedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """So far the log is known to be committed."""

    index: LogIndex


class LmdbLog:
    """The log as it is kept in the environment of the node, to be read and taken away."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def load(self) -> LoadedLog:
        """Everything that is kept, each record checked. Raises `StoreCorruptError`."""
        return self._environment.read(self._load)

    @staticmethod
    def forget(view: WriteView) -> None:
        """Remove all of it."""
        view.delete_range(Database.LOG)
        view.delete_range(Database.SNAPSHOT)
        for key in (_HARD_STATE, _SNAPSHOT_META, _COMMITTED):
            view.delete(Database.RAFT, key)

    def _what(self, record: str) -> str:
        return f"{record} in {self._environment.data_path}"

    def _load(self, view: ReadView) -> LoadedLog:
        snapshot = self._read_snapshot(view)
        snapshot_index = LogIndex(0) if snapshot is None else snapshot.meta.last_index
        first_key, last_key = view.first_key(Database.LOG), view.last_key(Database.LOG)
        entries: tuple[Entry, ...] = ()
        if first_key is not None and last_key is not None:
            first, last = _index_of(first_key), _index_of(last_key)
            if first != snapshot_index + 1:
                raise StoreCorruptError(
                    f"{self._what('the log')} begins with entry {first}, but the snapshot ends with "
                    f"{snapshot_index}: {WAY_OUT}"
                )
            entries = self._read_entries(view, first, last)
        hard_state = self._read_record(view, _HARD_STATE, HardState) or HardState()
        committed = self._committed(view)
        last_index = entries[-1].index if entries else snapshot_index
        if committed > last_index:
            raise StoreCorruptError(
                f"{self._what('the log')} ends with entry {last_index}, and {committed} was committed: {WAY_OUT}"
            )
        return LoadedLog(hard_state=hard_state, snapshot=snapshot, entries=entries, commit_index=committed)

    def _committed(self, view: ReadView) -> LogIndex:
        record = self._read_record(view, _COMMITTED, _CommittedRecord)
        return LogIndex(0) if record is None else record.index

    def _read_entries(self, view: ReadView, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        found: list[Entry] = []
        expected, term = first, Term(0)
        for key, record in view.scan(Database.LOG, _key(first), _key(LogIndex(last + 1))):
            index = _index_of(key)
            if index != expected:
                raise StoreCorruptError(
                    f"{self._what('the log')} has no entry {expected}, and goes on with {index}: {WAY_OUT}"
                )
            what = self._what(f"log entry {index}")
            entry = _read_entry(index, unseal(record, what, salt=key), what)
            if entry.term < term:
                raise StoreCorruptError(f"{what} is of an earlier term than the one before: {WAY_OUT}")
            found.append(entry)
            expected, term = LogIndex(index + 1), entry.term
        if expected != last + 1:
            raise StoreCorruptError(f"{self._what('the log')} has no entry {expected}: {WAY_OUT}")
        return tuple(found)

    def _read_snapshot(self, view: ReadView) -> Snapshot | None:
        record = self._read_record(view, _SNAPSHOT_META, _SnapshotRecord)
        if record is None:
            return None
        pieces = [
            unseal(piece, self._what(f"snapshot piece {number}"), salt=key)
            for number, (key, piece) in enumerate(view.scan(Database.SNAPSHOT))
        ]
        payload = b"".join(pieces)
        if len(payload) != record.payload_bytes:
            raise StoreCorruptError(
                f"{self._what('the snapshot')} has {len(payload)} bytes instead of {record.payload_bytes}: {WAY_OUT}"
            )
        return Snapshot(meta=record.meta, payload=payload)

    def _read_record(self, view: ReadView, key: bytes, kind: type[T]) -> T | None:
        record = view.get(Database.RAFT, key)
        if record is None:
            return None
        what = self._what(f"the record {key.decode()}")
        body = unseal(record, what, salt=key)
        is_old = body[:1] and 0x80 <= body[0] <= 0x8F
        if not is_old:
            _check_version(body, what)
        try:
            return msgspec.msgpack.decode(body if is_old else body[1:], type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreCorruptError(f"{what} cannot be read ({error}): {WAY_OUT}") from error


def _read_entry(index: LogIndex, body: bytes, what: str) -> Entry:
    """The entry in an unsealed record; raises StoreCorruptError naming `what`."""
    if body[:1] == b"\0":
        if len(body) < _OLD_ENTRY_HEAD.size:
            raise StoreCorruptError(f"{what} is too short, {len(body)} bytes: {WAY_OUT}")
        (term,) = _OLD_ENTRY_HEAD.unpack_from(body)
        return Entry(term=Term(term), index=index, payload=body[_OLD_ENTRY_HEAD.size :])
    _check_version(body, what)
    if len(body) < _ENTRY_HEAD.size:
        raise StoreCorruptError(f"{what} is too short, {len(body)} bytes: {WAY_OUT}")
    _, number, term = _ENTRY_HEAD.unpack_from(body)
    kind = _KINDS.get(number)
    payload = body[_ENTRY_HEAD.size :]
    if kind is None or term > _TERM_MAX:
        raise StoreCorruptError(f"{what} is of kind {number} and term {term}, which cannot be: {WAY_OUT}")
    if kind is EntryKind.MEMBERSHIP:
        try:
            decode_membership(payload)
        except ValueError as error:
            raise StoreCorruptError(f"{what} names no group ({error}): {WAY_OUT}") from error
    return Entry(term=Term(term), index=index, payload=payload, kind=kind)


def _check_version(body: bytes, what: str) -> None:
    version = body[0] if body else 0
    if version > RECORD_VERSION:
        raise StoreCorruptError(
            f"{what} has version {version}, and this program reads up to {RECORD_VERSION}: "
            "it was written by a newer version of Orca; start that version"
        )
    if version < RECORD_VERSION:
        raise StoreCorruptError(f"{what} is of no known version: {WAY_OUT}")


def _key(index: LogIndex) -> bytes:
    return index.to_bytes(8, "big")


def _index_of(key: bytes) -> LogIndex:
    return LogIndex(int.from_bytes(key, "big"))
