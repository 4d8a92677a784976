import pytest

from consensus.raft.log import RaftLog
from consensus.storage import Membership, SnapshotMeta
from orca.model.ids import LogIndex, Term
from tests.contracts.log_store import entries_from


def make_log() -> RaftLog:
    return RaftLog(SnapshotMeta(last_index=LogIndex(3), last_term=Term(2)), entries_from(4, 2, 3, 3))


@pytest.mark.parametrize(("index", "term"), [(2, None), (3, 2), (4, 2), (5, 3), (6, 3), (7, None)])
def test_term_is_known_from_the_end_of_the_snapshot_to_the_newest_entry(index: int, term: int | None) -> None:
    assert make_log().term_at(LogIndex(index)) == term


def test_slice_takes_both_ends_and_refuses_what_is_not_there() -> None:
    log = make_log()
    assert [entry.index for entry in log.slice(LogIndex(4), LogIndex(5))] == [4, 5]
    assert log.slice(LogIndex(7), LogIndex(6)) == ()
    with pytest.raises(AssertionError, match="compacted away"):
        log.slice(LogIndex(3), LogIndex(5))
    with pytest.raises(AssertionError, match="after the newest"):
        log.slice(LogIndex(4), LogIndex(7))


def test_append_refuses_gaps_and_falling_terms() -> None:
    log = make_log()
    for wrong in (entries_from(8, 3), entries_from(6, 3), entries_from(7, 2)):
        with pytest.raises(AssertionError):
            log.append(wrong)
    log.append(entries_from(7, 3, 4))
    assert (log.last_index, log.last_term) == (8, 4)


def test_restore_undoes_an_append_and_a_compaction() -> None:
    log = make_log()
    before = log.slice(LogIndex(4), LogIndex(6))
    mark = log.mark()
    log.append(entries_from(7, 3))
    log.restore(mark)
    log.check_invariants()
    mark = log.mark()
    assert log.compact(LogIndex(5)) == SnapshotMeta(last_index=LogIndex(5), last_term=Term(3), membership=Membership())
    log.check_invariants()
    log.restore(mark)
    log.check_invariants()
    assert log.slice(LogIndex(4), LogIndex(6)) == before


def test_compaction_up_to_the_newest_entry_keeps_its_term() -> None:
    log = make_log()
    log.compact(LogIndex(6))
    assert (log.last_index, log.last_term, log.tail_entries, log.tail_bytes) == (6, 3, 0, 0)
    log.append(entries_from(7, 3))
    assert log.term_at(LogIndex(7)) == 3
