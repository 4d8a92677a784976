import pytest

from consensus.storage import HardState, LoadedLog, LogStore, LogWrite
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from simulations.disk import SimulatedDisk
from simulations.world import World
from tests.contracts.log_store import OpenStore, check_log_store, entries_from, snapshot_at


def make(seed: int = 1, bytes_max: int | None = None) -> SimulatedDisk:
    return SimulatedDisk(World(seed).chance("disk"), bytes_max=bytes_max)


def disk_place() -> OpenStore:
    disk = make()

    def open_store() -> LogStore:
        disk.close()
        return disk.open()

    return open_store


def crashing_place() -> OpenStore:
    disk = make()

    def open_store() -> LogStore:
        disk.crash()
        return disk.open()

    return open_store


def test_a_simulated_disk_keeps_the_contract_of_stores() -> None:
    check_log_store(disk_place)


def test_it_keeps_the_contract_through_a_crash_before_each_opening() -> None:
    check_log_store(crashing_place)


WRITE = LogWrite(hard_state=HardState(term=Term(3), voted_for=NodeId("n1")), entries=entries_from(2, 3, 3))
BEFORE = LogWrite(hard_state=HardState(term=Term(1)), entries=entries_from(1, 1))


def test_an_unsynced_write_is_there_whole_or_not_at_all_after_a_crash() -> None:
    """A transaction is atomic, whatever is left of its bytes."""
    found = []
    for seed in range(300):
        disk = make(seed)
        disk.write(BEFORE)
        before = disk.load()
        disk.stage(WRITE)
        after = disk.load()
        disk.crash()
        found.append(disk.open().load())
        assert found[-1] in (before, after)
        assert disk.durable == found[-1]
    assert before in found


def test_torn_and_lost_and_surviving_writes_all_happen() -> None:
    torn = lost = survived = 0
    for seed in range(300):
        disk = make(seed)
        disk.stage(BEFORE)
        disk.stage(WRITE)
        disk.crash()
        torn, lost, survived = torn + disk.counts.torn, lost + disk.counts.lost, survived + disk.counts.survived
    assert min(torn, lost, survived) > 20


def test_what_was_synced_is_there_after_any_crash() -> None:
    for seed in range(50):
        disk = make(seed)
        disk.write(BEFORE)
        disk.stage(WRITE)
        disk.sync()
        kept = disk.load()
        disk.crash()
        assert disk.open().load() == kept


def test_a_lying_disk_loses_what_it_called_durable() -> None:
    losses = 0
    for seed in range(20):
        disk = make(seed)
        disk.is_lying = True
        disk.write(BEFORE)
        disk.crash()
        losses += disk.open().load() == LoadedLog()
    assert losses > 5


def test_a_full_disk_refuses_and_keeps_what_it_has() -> None:
    disk = make()
    disk.write(BEFORE)
    before = disk.load()
    disk.is_full = True
    with pytest.raises(StoreFullError, match="no space"):
        disk.write(WRITE)
    assert disk.load() == before
    disk.is_full = False
    disk.write(WRITE)
    assert disk.counts.refused == 1


def test_a_small_disk_refuses_to_grow_and_still_compacts() -> None:
    disk = make(bytes_max=20)
    disk.write(LogWrite(entries=entries_from(1, 1, 1)))
    with pytest.raises(StoreFullError, match="20 bytes"):
        disk.write(LogWrite(entries=entries_from(3, 1)))
    disk.write(LogWrite(snapshot=snapshot_at(2, 1, b"s")))
    disk.write(LogWrite(entries=entries_from(3, 1)))


def test_terms_are_known_from_the_snapshot_on() -> None:
    disk = make()
    disk.write(LogWrite(entries=entries_from(1, 1, 2, 3), snapshot=snapshot_at(2, 2)))
    assert [disk.term_at(LogIndex(index)) for index in range(5)] == [0, None, 2, 3, None]
