import random
from collections.abc import Callable

import msgspec
import pytest

from consensus.storage import Entry, HardState, LogWrite
from node.store.environment import Environment
from node.store.lmdb_log import LmdbLog
from node.store.log_store import FILE_NAME, FileLogStore
from node.store.records import seal
from node.store.views import Database, WriteView
from orca.errors import StoreCorruptError
from orca.model.ids import NodeId, Term
from tests.contracts.log_store import entries_from, snapshot_at

pytestmark = pytest.mark.integration
NODE = NodeId("n-a")


def put_old_log(environment: Environment, entries: tuple[Entry, ...]) -> None:
    """As the last release that kept its log in LMDB wrote it: a snapshot of two pieces, and entries after it."""
    meta = {"meta": {"last_index": 2, "last_term": 1, "membership": None}, "payload_bytes": 300_000}
    records = {
        (Database.RAFT, b"hard_state"): b"\x01" + msgspec.msgpack.encode(HardState(term=Term(3), voted_for=NODE)),
        (Database.RAFT, b"snapshot_meta"): b"\x01" + msgspec.msgpack.encode(meta),
        (Database.RAFT, b"committed"): b"\x01" + msgspec.msgpack.encode({"index": 3}),
        (Database.SNAPSHOT, (0).to_bytes(4, "big")): b"s" * 262_144,
        (Database.SNAPSHOT, (1).to_bytes(4, "big")): b"s" * 37_856,
    }
    for entry in entries:
        body = b"\x01\x01" + entry.term.to_bytes(8, "big") + entry.payload
        records[Database.LOG, entry.index.to_bytes(8, "big")] = body
    for (database, key), body in records.items():
        environment.write_blocking(putting(database, key, seal(body, salt=key)))


def putting(database: Database, key: bytes, value: bytes) -> Callable[[WriteView], None]:
    return lambda view: view.put(database, key, value)


def test_log_of_an_earlier_release_is_moved_to_the_file_once(environment: Environment) -> None:
    entries = entries_from(3, 3, 3)
    put_old_log(environment, entries)
    with FileLogStore.open(environment) as store:
        loaded = store.load()
        assert loaded.hard_state == HardState(term=Term(3), voted_for=NODE)
        assert loaded.snapshot == snapshot_at(2, 1, b"s" * 300_000)
        assert (loaded.entries, loaded.commit_index) == (entries, 3)
        store.write(LogWrite(entries=entries_from(5, 3)))
    assert environment.read(lambda view: (view.first_key(Database.LOG), view.first_key(Database.SNAPSHOT))) == (
        None,
        None,
    )
    with FileLogStore.open(environment) as store:
        assert store.load().last_index == 5


def test_a_move_that_was_cut_short_begins_again(environment: Environment) -> None:
    """The file was there, and LMDB did not say so yet."""
    put_old_log(environment, entries_from(3, 3))
    (environment.data_path.parent / FILE_NAME).write_bytes(b"of a life that ended here")
    with FileLogStore.open(environment) as store:
        assert store.load().entries == entries_from(3, 3)


@pytest.mark.parametrize(
    ("database", "key"),
    [
        (Database.LOG, (3).to_bytes(8, "big")),
        (Database.RAFT, b"hard_state"),
        (Database.RAFT, b"snapshot_meta"),
        (Database.SNAPSHOT, (1).to_bytes(4, "big")),
    ],
)
def test_every_flipped_bit_of_a_record_is_found(environment: Environment, database: Database, key: bytes) -> None:
    put_old_log(environment, entries_from(3, 3))
    record = environment.read(lambda view: view.get(database, key))
    assert record is not None
    for bit in random.Random(4).sample(range(len(record) * 8), min(24, len(record) * 8)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        environment.write_blocking(putting(database, key, bytes(flipped)))
        with pytest.raises(StoreCorruptError, match=r"data\.mdb"):
            FileLogStore.open(environment)
    environment.write_blocking(putting(database, key, record))
    LmdbLog(environment).load()


def test_records_of_the_first_release_are_read(environment: Environment) -> None:
    """They had no version, no kind of entry and no membership."""
    records = {
        (Database.RAFT, b"hard_state"): msgspec.msgpack.encode({"term": 3, "voted_for": "n-a", "epoch": 0}),
        (Database.RAFT, b"snapshot_meta"): msgspec.msgpack.encode(
            {"meta": {"last_index": 1, "last_term": 1}, "payload_bytes": 5}
        ),
        (Database.SNAPSHOT, (0).to_bytes(4, "big")): b"state",
        (Database.LOG, (2).to_bytes(8, "big")): (3).to_bytes(8, "big") + b"set x 2",
    }
    for (database, key), body in records.items():
        environment.write_blocking(putting(database, key, seal(body, salt=key)))
    loaded = LmdbLog(environment).load()
    assert loaded.hard_state == HardState(term=Term(3), voted_for=NODE)
    assert loaded.snapshot == snapshot_at(1, 1)
    assert loaded.entries == entries_from(2, 3)


@pytest.mark.parametrize(("database", "key"), [(Database.RAFT, b"hard_state"), (Database.LOG, (3).to_bytes(8, "big"))])
def test_record_of_a_newer_release_is_refused_with_the_way_out(
    environment: Environment, database: Database, key: bytes
) -> None:
    put_old_log(environment, entries_from(3, 3))
    environment.write_blocking(putting(database, key, seal(b"\x02" + bytes(20), salt=key)))
    with pytest.raises(StoreCorruptError, match=r"newer version of Orca; start that version"):
        FileLogStore.open(environment)


@pytest.mark.parametrize(
    "body",
    [b"\0\0", b"\x01\x01", b"\x01\x09" + bytes(8), b"\x01\x02" + bytes(8) + b"no group", b""],
)
def test_sealed_nonsense_is_refused_with_the_way_out(environment: Environment, body: bytes) -> None:
    key = (1).to_bytes(8, "big")
    environment.write_blocking(putting(Database.LOG, key, seal(body, salt=key)))
    with pytest.raises(StoreCorruptError, match=r"restore the data directory from a backup"):
        FileLogStore.open(environment)


def test_record_in_the_place_of_another_is_found(environment: Environment) -> None:
    put_old_log(environment, entries_from(3, 3, 3))
    second = environment.read(lambda view: view.get(Database.LOG, (4).to_bytes(8, "big")))
    assert second is not None
    environment.write_blocking(putting(Database.LOG, (3).to_bytes(8, "big"), second))
    with pytest.raises(StoreCorruptError, match=r"log entry 3 .* is damaged"):
        FileLogStore.open(environment)


@pytest.mark.parametrize("missing", [3, 4])
def test_log_with_a_missing_entry_is_refused(environment: Environment, missing: int) -> None:
    put_old_log(environment, entries_from(3, 3, 3, 3))
    environment.write_blocking(lambda view: view.delete(Database.LOG, missing.to_bytes(8, "big")))
    with pytest.raises(StoreCorruptError):
        FileLogStore.open(environment)


def test_snapshot_with_a_missing_piece_is_refused(environment: Environment) -> None:
    put_old_log(environment, entries_from(3, 3))
    environment.write_blocking(lambda view: view.delete(Database.SNAPSHOT, (1).to_bytes(4, "big")))
    with pytest.raises(StoreCorruptError, match="262144 bytes instead of 300000"):
        FileLogStore.open(environment)
