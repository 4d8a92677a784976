import pytest

from consensus.storage import LogStore, LogWrite, MemoryLogStore
from orca.errors import StoreFullError
from tests.contracts.log_store import OpenStore, check_log_store, entries_from, snapshot_at


def memory_place() -> OpenStore:
    latest = MemoryLogStore()

    def open_store() -> LogStore:
        nonlocal latest
        latest = latest.crash()
        return latest

    return open_store


def test_memory_store_keeps_the_contract() -> None:
    check_log_store(memory_place)


def test_full_memory_store_refuses_to_grow_and_still_compacts() -> None:
    store = MemoryLogStore(bytes_max=20)
    store.write(LogWrite(entries=entries_from(1, 1, 1)))
    before = store.load()
    with pytest.raises(StoreFullError, match="20 bytes"):
        store.write(LogWrite(entries=entries_from(3, 1)))
    assert store.load() == before
    store.write(LogWrite(snapshot=snapshot_at(2, 1, b"s")))
    store.write(LogWrite(entries=entries_from(3, 1)))


def test_crashed_memory_store_is_of_no_use() -> None:
    store = MemoryLogStore()
    store.crash()
    with pytest.raises(AssertionError, match="closed"):
        store.load()
