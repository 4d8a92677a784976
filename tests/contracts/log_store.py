"""What every `LogStore` must do, whatever it keeps its bytes in."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

from consensus.storage import (
    Entry,
    EntryKind,
    HardState,
    LoadedLog,
    LogStore,
    LogWrite,
    Membership,
    Snapshot,
    SnapshotMeta,
    encode_membership,
)
from orca.model.ids import LogIndex, NodeId, Term

OpenStore: TypeAlias = Callable[[], LogStore]
"""Opens the store of one place; called again after `close`, it finds what was written there."""
MakePlace: TypeAlias = Callable[[], OpenStore]
"""Makes a new, empty place."""


def entries_from(first: int, *terms: int, payload: bytes = b"set x") -> tuple[Entry, ...]:
    """One entry a term, beginning at index `first`."""
    return tuple(
        Entry(term=Term(term), index=LogIndex(first + offset), payload=payload + b" %d" % (first + offset))
        for offset, term in enumerate(terms)
    )


def snapshot_at(index: int, term: int, payload: bytes = b"state") -> Snapshot:
    """A snapshot that ends with entry `index` of `term`."""
    return Snapshot(meta=SnapshotMeta(last_index=LogIndex(index), last_term=Term(term)), payload=payload)


def check_new_store_is_empty(open_store: OpenStore) -> None:
    assert open_store().load() == LoadedLog()


def check_hard_state_survives_reopening(open_store: OpenStore) -> None:
    state = HardState(term=Term(7), voted_for=NodeId("n-b"), epoch=2)
    store = open_store()
    store.write(LogWrite(hard_state=state))
    store.close()
    assert open_store().load() == LoadedLog(hard_state=state)


def check_a_later_hard_state_replaces_the_earlier(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(hard_state=HardState(term=Term(1), voted_for=NodeId("n-a"))))
    store.write(LogWrite(hard_state=HardState(term=Term(2))))
    assert store.load().hard_state == HardState(term=Term(2), voted_for=None)


def check_entries_survive_reopening(open_store: OpenStore) -> None:
    first, second = entries_from(1, 1, 1), entries_from(3, 2, 2)
    store = open_store()
    store.write(LogWrite(entries=first))
    store.write(LogWrite(entries=second))
    store.close()
    store = open_store()
    assert store.load().entries == first + second
    assert store.entries(LogIndex(2), LogIndex(3)) == (first[1], second[0])
    assert store.entries(LogIndex(4), LogIndex(4)) == (second[1],)


def check_empty_and_large_payloads_come_back_whole(open_store: OpenStore) -> None:
    large = bytes(range(256)) * 1024
    entries = (
        Entry(term=Term(1), index=LogIndex(1), payload=b""),
        Entry(term=Term(1), index=LogIndex(2), payload=large),
    )
    store = open_store()
    store.write(LogWrite(entries=entries, snapshot=snapshot_at(1, 1, large * 3)))
    store.close()
    loaded = open_store().load()
    assert loaded.entries == entries[1:]
    assert loaded.snapshot == snapshot_at(1, 1, large * 3)


def check_kinds_and_memberships_come_back(open_store: OpenStore) -> None:
    group = Membership(voters=(NodeId("n-a"), NodeId("n-b")), learners=(NodeId("n-c"),))
    entries = (
        Entry(term=Term(1), index=LogIndex(1), payload=b"set"),
        Entry(term=Term(2), index=LogIndex(2), payload=encode_membership(group), kind=EntryKind.MEMBERSHIP),
        Entry(term=Term(2), index=LogIndex(3), payload=b""),
    )
    store = open_store()
    store.write(LogWrite(entries=entries))
    store.close()
    store = open_store()
    assert store.load().entries == store.entries(LogIndex(1), LogIndex(3)) == entries
    meta = SnapshotMeta(last_index=LogIndex(2), last_term=Term(2), membership=group)
    store.write(LogWrite(snapshot=Snapshot(meta=meta, payload=b"state")))
    store.close()
    loaded = open_store().load()
    assert loaded.snapshot == Snapshot(meta=meta, payload=b"state")
    assert loaded.entries == entries[2:]


def check_truncation_and_entries_are_one_write(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1, 1)))
    replaced = entries_from(2, 3, payload=b"other")
    store.write(LogWrite(truncate_from=LogIndex(2), entries=replaced))
    store.close()
    assert open_store().load().entries == entries_from(1, 1) + replaced


def check_snapshot_drops_the_entries_it_covers(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1, 2, 2)))
    store.write(LogWrite(snapshot=snapshot_at(3, 2)))
    store.close()
    store = open_store()
    assert store.load() == LoadedLog(snapshot=snapshot_at(3, 2), entries=entries_from(4, 2))
    store.write(LogWrite(entries=entries_from(5, 3)))
    assert store.load().entries == entries_from(4, 2, 3)


def check_log_goes_on_after_a_snapshot_of_everything(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1), snapshot=snapshot_at(2, 1)))
    assert store.load().entries == ()
    store.write(LogWrite(entries=entries_from(3, 1)))
    store.close()
    assert open_store().load() == LoadedLog(snapshot=snapshot_at(2, 1), entries=entries_from(3, 1))


def check_snapshot_of_another_history_drops_all_entries(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1, 1)))
    store.write(LogWrite(snapshot=snapshot_at(2, 5)))
    assert store.load() == LoadedLog(snapshot=snapshot_at(2, 5))
    store.write(LogWrite(snapshot=snapshot_at(9, 5)))
    assert store.load() == LoadedLog(snapshot=snapshot_at(9, 5))
    store.write(LogWrite(entries=entries_from(10, 6)))
    assert store.load().last_index == 10


def check_a_shorter_snapshot_leaves_nothing_of_a_longer_one(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1), snapshot=snapshot_at(1, 1, b"x" * 2_000_000)))
    store.write(LogWrite(snapshot=snapshot_at(2, 1, b"short")))
    store.close()
    assert open_store().load().snapshot == snapshot_at(2, 1, b"short")


def check_a_wrong_batch_changes_nothing(open_store: OpenStore) -> None:
    store = open_store()
    good = LogWrite(hard_state=HardState(term=Term(2)), entries=entries_from(1, 1, 1, 2), snapshot=snapshot_at(1, 1))
    store.write(good)
    before = store.load()
    state = HardState(term=Term(9))
    for wrong in (
        LogWrite(hard_state=state, entries=entries_from(5, 2)),
        LogWrite(hard_state=state, entries=entries_from(3, 2)),
        LogWrite(hard_state=state, truncate_from=LogIndex(1)),
        LogWrite(hard_state=state, truncate_from=LogIndex(4)),
        LogWrite(hard_state=state, snapshot=snapshot_at(1, 1)),
        LogWrite(hard_state=state, entries=(*entries_from(4, 2), *entries_from(6, 2))),
    ):
        with pytest.raises(AssertionError):
            store.write(wrong)
        assert store.load() == before
    with pytest.raises(AssertionError):
        store.entries(LogIndex(1), LogIndex(2))
    with pytest.raises(AssertionError):
        store.entries(LogIndex(3), LogIndex(4))
    store.close()
    assert open_store().load() == before


def check_what_is_committed_is_known_after_reopening(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(entries=entries_from(1, 1, 1, 1), commit_index=LogIndex(1)))
    store.write(LogWrite(commit_index=LogIndex(2)))
    store.write(LogWrite(commit_index=LogIndex(1)))  # an older write says less, and takes nothing back
    store.write(LogWrite(hard_state=HardState(term=Term(2))))
    store.close()
    store = open_store()
    assert store.load().commit_index == 2
    with pytest.raises(AssertionError):
        store.write(LogWrite(commit_index=LogIndex(4)))
    assert store.load().commit_index == 2


def check_a_reset_store_is_a_new_one(open_store: OpenStore) -> None:
    store = open_store()
    store.write(LogWrite(hard_state=HardState(term=Term(3), epoch=1), entries=entries_from(1, 1, 1, 2, 3)))
    store.write(LogWrite(snapshot=snapshot_at(2, 1), commit_index=LogIndex(3)))
    store.reset()
    assert store.load() == LoadedLog()
    store.close()
    store = open_store()
    assert store.load() == LoadedLog()
    store.write(LogWrite(entries=entries_from(1, 1)))
    assert store.load().entries == entries_from(1, 1)


LOG_STORE_CHECKS: tuple[Callable[[OpenStore], None], ...] = (
    check_new_store_is_empty,
    check_hard_state_survives_reopening,
    check_a_later_hard_state_replaces_the_earlier,
    check_entries_survive_reopening,
    check_empty_and_large_payloads_come_back_whole,
    check_kinds_and_memberships_come_back,
    check_truncation_and_entries_are_one_write,
    check_snapshot_drops_the_entries_it_covers,
    check_log_goes_on_after_a_snapshot_of_everything,
    check_snapshot_of_another_history_drops_all_entries,
    check_a_shorter_snapshot_leaves_nothing_of_a_longer_one,
    check_a_wrong_batch_changes_nothing,
    check_what_is_committed_is_known_after_reopening,
    check_a_reset_store_is_a_new_one,
)


def check_log_store(make: MakePlace) -> None:
    """Run the whole suite, each check in a place of its own."""
    for check in LOG_STORE_CHECKS:
        check(make())
