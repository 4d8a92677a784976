import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from consensus.raft import ProposalId, Proposed, RaftConfig, RaftMachine, Tick, collect_write
from consensus.storage import HardState, LogStore, LogWrite
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_store import LmdbLogStore
from node.store.records import seal
from node.store.views import Database, WriteView
from orca.errors import StoreCorruptError, StoreFullError
from orca.model.ids import NodeId, Term
from orca.model.units import Instant
from tests.contracts.log_store import LOG_STORE_CHECKS, OpenStore, entries_from, snapshot_at

pytestmark = pytest.mark.integration
MakePlace = Callable[[], OpenStore]
NODE = NodeId("n-a")


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[MakePlace]:
    """Each place is a data directory; opening it again closes and reopens the whole environment."""
    names = itertools.count()
    current: dict[Path, tuple[DataDirectory, Environment]] = {}

    def close(path: Path) -> None:
        if path in current:
            directory, environment = current.pop(path)
            environment.close()
            directory.close()

    def make() -> OpenStore:
        path = tmp_path / f"place-{next(names)}"

        def open_store() -> LogStore:
            close(path)
            directory = DataDirectory.open(path)
            environment = Environment.open(directory, map_bytes_max=2**25)
            current[path] = (directory, environment)
            return LmdbLogStore(environment)

        return open_store

    yield make
    for path in list(current):
        close(path)


@pytest.mark.parametrize("check", LOG_STORE_CHECKS)
def test_lmdb_store_keeps_the_contract(check: Callable[[OpenStore], None], make_place: MakePlace) -> None:
    check(make_place())


def test_full_store_refuses_entries_with_nothing_written_and_still_compacts(environment: Environment) -> None:
    store = LmdbLogStore(environment)
    last = 0
    refusal = ""
    while not refusal:
        try:
            store.write(LogWrite(entries=entries_from(last + 1, 1, payload=b"x" * 10_000)))
            last += 1
        except StoreFullError as error:
            refusal = error.message
    assert "is full" in refusal
    assert last > 50
    assert [entry.index for entry in store.load().entries] == list(range(1, last + 1))
    store.write(LogWrite(snapshot=snapshot_at(last - 1, 1, b"small")))
    store.write(LogWrite(entries=entries_from(last + 1, 1, payload=b"x" * 10_000)))
    assert store.load().last_index == last + 1


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
    store = LmdbLogStore(environment)
    batch = LogWrite(
        hard_state=HardState(term=Term(3), voted_for=NODE),
        entries=entries_from(1, 1, 1, 1),
        snapshot=snapshot_at(2, 1, b"s" * 300_000),
    )
    store.write(batch)
    record = environment.read(lambda view: view.get(database, key))
    assert record is not None
    for bit in random.Random(4).sample(range(len(record) * 8), min(24, len(record) * 8)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        environment.write_blocking(_putting(database, key, bytes(flipped)))
        with pytest.raises(StoreCorruptError, match=r"data\.mdb"):
            store.load()
    environment.write_blocking(_putting(database, key, record))
    store.load()


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
        environment.write_blocking(_putting(database, key, seal(body, salt=key)))
    store = LmdbLogStore(environment)
    loaded = store.load()
    assert loaded.hard_state == HardState(term=Term(3), voted_for=NODE)
    assert loaded.snapshot == snapshot_at(1, 1)
    assert loaded.entries == entries_from(2, 3)
    store.write(LogWrite(entries=entries_from(3, 3), snapshot=snapshot_at(2, 3)))
    assert store.load().entries == entries_from(3, 3)


@pytest.mark.parametrize(("database", "key"), [(Database.RAFT, b"hard_state"), (Database.LOG, (1).to_bytes(8, "big"))])
def test_record_of_a_newer_release_is_refused_with_the_way_out(
    environment: Environment, database: Database, key: bytes
) -> None:
    store = LmdbLogStore(environment)
    store.write(LogWrite(hard_state=HardState(term=Term(1)), entries=entries_from(1, 1)))
    environment.write_blocking(_putting(database, key, seal(b"\x02" + bytes(20), salt=key)))
    with pytest.raises(StoreCorruptError, match=r"newer version of Orca; start that version"):
        store.load()


@pytest.mark.parametrize(
    "body",
    [b"\0\0", b"\x01\x01", b"\x01\x09" + bytes(8), b"\x01\x02" + bytes(8) + b"no group", b""],
)
def test_sealed_nonsense_is_refused_with_the_way_out(environment: Environment, body: bytes) -> None:
    key = (1).to_bytes(8, "big")
    environment.write_blocking(_putting(Database.LOG, key, seal(body, salt=key)))
    with pytest.raises(StoreCorruptError, match=r"restore the data directory from a backup"):
        LmdbLogStore(environment).load()


def test_record_in_the_place_of_another_is_found(environment: Environment) -> None:
    store = LmdbLogStore(environment)
    store.write(LogWrite(entries=entries_from(1, 1, 1)))
    second = environment.read(lambda view: view.get(Database.LOG, (2).to_bytes(8, "big")))
    assert second is not None
    environment.write_blocking(_putting(Database.LOG, (1).to_bytes(8, "big"), second))
    with pytest.raises(StoreCorruptError, match=r"log entry 1 .* is damaged"):
        store.load()


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_log_with_a_missing_entry_is_refused(environment: Environment, missing: int) -> None:
    store = LmdbLogStore(environment)
    store.write(LogWrite(entries=entries_from(1, 1, 1, 1, 1)))
    environment.write_blocking(lambda view: view.delete(Database.LOG, missing.to_bytes(8, "big")))
    with pytest.raises(StoreCorruptError):
        store.load()


def test_snapshot_with_a_missing_piece_is_refused(environment: Environment) -> None:
    store = LmdbLogStore(environment)
    store.write(LogWrite(entries=entries_from(1, 1), snapshot=snapshot_at(1, 1, b"s" * 300_000)))
    environment.write_blocking(lambda view: view.delete(Database.SNAPSHOT, (1).to_bytes(4, "big")))
    with pytest.raises(StoreCorruptError, match="262144 bytes instead of 300000"):
        store.load()


def test_machine_goes_on_after_a_restart_with_all_that_was_written(make_place: MakePlace) -> None:
    open_store = make_place()
    for start in range(1, 4):
        store = open_store()
        machine = make_machine(store)
        perform(machine, store, Tick())
        assert machine.term == start
        for number in range(5):
            perform(machine, store, Proposed(proposal_id=ProposalId(number), payload=b"%d" % number))
        assert machine.last_index == start * 6
    payloads = [entry.payload for entry in open_store().load().entries]
    assert payloads == [b"", b"0", b"1", b"2", b"3", b"4"] * 3


def make_machine(store: LogStore) -> RaftMachine:
    return RaftMachine(NODE, frozenset({NODE}), store.load(), RaftConfig(), random.Random(1))


def perform(machine: RaftMachine, store: LogStore, event: Tick | Proposed) -> None:
    _, write, _ = collect_write(machine.step(event, Instant(0.0)))
    assert write is not None
    store.write(write)


def _putting(database: Database, key: bytes, value: bytes) -> Callable[[WriteView], None]:
    return lambda view: view.put(database, key, value)
