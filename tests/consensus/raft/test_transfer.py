import zlib

from consensus.raft.messages import InstallSnapshot
from consensus.raft.transfer import PartialSnapshot, SnapshotTransfer
from consensus.storage import Snapshot
from orca.model.ids import Term
from tests.contracts.log_store import snapshot_at

SNAPSHOT = snapshot_at(40, 2, b"0123456789")


def piece(offset: int, data: bytes, snapshot: Snapshot = SNAPSHOT, checksum: int | None = None) -> InstallSnapshot:
    return InstallSnapshot(
        term=Term(3),
        epoch=0,
        meta=snapshot.meta,
        size=len(snapshot.payload),
        checksum=zlib.crc32(snapshot.payload) if checksum is None else checksum,
        offset=offset,
        data=data,
    )


def test_pieces_in_order_make_the_snapshot() -> None:
    partial = PartialSnapshot(100)
    assert not partial.take(piece(0, b"0123"))
    assert partial.take(piece(4, b"456789"))
    assert partial.finish() == SNAPSHOT
    assert partial.held_bytes == 0


def test_a_piece_that_comes_twice_or_too_early_is_not_taken() -> None:
    partial = PartialSnapshot(100)
    partial.take(piece(4, b"4567"))
    assert partial.held_bytes == 0
    partial.take(piece(0, b"0123"))
    partial.take(piece(0, b"0123"))
    partial.take(piece(6, b"6789"))
    assert partial.held_bytes == 4
    partial.check_invariants()


def test_another_snapshot_begins_anew() -> None:
    partial = PartialSnapshot(100)
    partial.take(piece(0, b"0123"))
    newer = snapshot_at(41, 2, b"abcdefgh")
    assert not partial.take(piece(4, b"efgh", newer))
    assert partial.held_bytes == 0
    assert not partial.take(piece(0, b"abcd", newer))
    assert partial.take(piece(4, b"efgh", newer))
    assert partial.finish() == newer


def test_a_damaged_snapshot_is_not_taken_for_a_whole_one() -> None:
    partial = PartialSnapshot(100)
    assert partial.take(piece(0, b"01234x6789"))
    assert partial.finish() is None
    assert partial.held_bytes == 0


def test_an_empty_snapshot_is_whole_at_once() -> None:
    empty = snapshot_at(3, 1, b"")
    partial = PartialSnapshot(100)
    assert partial.take(piece(0, b"", empty))
    assert partial.finish() == empty


def test_a_snapshot_that_is_too_large_is_known_by_its_first_piece() -> None:
    assert PartialSnapshot(9).is_too_large(piece(0, b"0123"))
    assert not PartialSnapshot(10).is_too_large(piece(0, b"0123"))


def test_the_sender_goes_where_the_receiver_wants() -> None:
    transfer = SnapshotTransfer(SNAPSHOT)
    assert transfer.piece(4) == b"0123"
    transfer.sent(1)
    transfer.wants(0)
    waiting = [transfer.is_waiting]
    transfer.wants(8)
    assert [*waiting, transfer.is_waiting] == [True, False], "an old answer that comes again asks for nothing"
    assert transfer.piece(4) == b"89"
    transfer.wants(99)
    assert transfer.offset == 8, "nobody can want what there is not"


def test_a_piece_from_before_an_answered_heartbeat_is_sent_again() -> None:
    transfer = SnapshotTransfer(SNAPSHOT)
    transfer.sent(3)
    transfer.answered(3)
    waiting = [transfer.is_waiting]
    transfer.answered(4)
    assert [*waiting, transfer.is_waiting] == [True, False]
